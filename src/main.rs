//! The `deepersensor` command.

fn main() {}
