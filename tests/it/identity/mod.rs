//! Who may do what, and what it takes to find out.

mod load;
mod matrix;
