//! Command `tidegate schema`: prints the JSON Schema or the reference of the configuration, for editors and people.

use std::io::Write;
use std::process::ExitCode;

use crate::config;

/// Arguments of `tidegate schema`.
#[derive(clap::Args, Debug)]
pub struct SchemaArgs {
    /// Print the tables of the configuration reference in Markdown in place of the JSON Schema.
    #[arg(long)]
    pub reference: bool,
}

/// Prints the JSON Schema, or the tables of the reference.
pub fn run(args: &SchemaArgs) -> ExitCode {
    let text = if args.reference { config::reference() } else { format!("{:#}\n", config::schema()) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
