//! Writes a model of gpt-oss-20b's shape, with random weights: 12 GB, or fewer layers of it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use vmtest::GptOss;

/// Writes a model of gpt-oss-20b's shape with random weights.
#[derive(Parser)]
struct Arguments {
    /// The file.
    file: PathBuf,
    /// Layers of the 24.
    #[arg(long, default_value_t = 24)]
    layers: u64,
    /// A few hundred kilobytes of the same kind instead.
    #[arg(long)]
    tiny: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let shape = if arguments.tiny {
        GptOss::TINY
    } else {
        GptOss::FULL.layers(arguments.layers)
    };
    let named = || format!("{} cannot be written", arguments.file.display());
    let mut file = BufWriter::new(File::create(&arguments.file).with_context(named)?);
    shape.write(&mut file).with_context(named)?;
    file.flush().with_context(named)
}
