//! What the world sees: HTTP in, a few handle calls, HTTP out.
