//! What things mean: plain types and rules. No runtime, no IO, no clock.
