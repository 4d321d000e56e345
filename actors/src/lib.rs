//! What is kept alive: supervised rooms; everything that waits, remembers or fails.
