//! The command line.

pub mod check;
pub mod schema;
pub mod token;

use std::process::ExitCode;

/// Runs the command named by the arguments.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
