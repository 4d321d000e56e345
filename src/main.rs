//! The `deepersensor` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepersensor::cli::run()
}
