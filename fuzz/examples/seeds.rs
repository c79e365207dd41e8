//! Writes the seeds that cannot be written by hand, because something in them is signed or sealed, into `corpus`.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [
        ("footer", fuzz::footer::seeds()),
        ("pass", fuzz::pass::seeds()),
        ("segment", fuzz::segment::seeds()),
    ] {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
