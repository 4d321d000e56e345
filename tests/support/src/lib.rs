//! What the tests and the benchmark stand on.
