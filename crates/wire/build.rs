//! Compiles the protocol in Rust: nobody needs protoc.

use std::{env, fs, path::PathBuf};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script in the environment where to write"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["coffer/v1/roles.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .bytes(".coffer.v1.AppendRequest.batches")
        .bytes(".coffer.v1.Chunk.bytes")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())?;
    // The list of all methods, so that a test can compare it with the call table.
    let methods: Vec<String> = descriptors
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file.package().to_owned(), service)))
        .flat_map(|(package, service)| {
            service
                .method
                .iter()
                .map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
                .collect::<Vec<_>>()
        })
        .collect();
    fs::write(out.join("methods.rs"), format!("&{methods:?}"))?;
    Ok(())
}
