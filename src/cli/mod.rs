//! The command line.

use std::process::ExitCode;

/// Runs the command named by the arguments.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
