//! Comes with the test ground.

fn main() {}
