//! The command line.

pub mod token;

use std::process::ExitCode;

/// Runs the command named by the arguments.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
