//! Writes an export with made-up records, to measure how long a check of it takes: `export RECORDS FILE`.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(records), Some(file)) = (args.next(), args.next()) else {
        return Err("give a number of records and a file".into());
    };
    let sample = audit::sample::Sample::of(records.parse()?, 1);
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for line in sample.export(0, &[]) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}
