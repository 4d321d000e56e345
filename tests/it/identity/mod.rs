//! Who may do what, and what it takes to find out.

mod docs;
mod load;
mod matrix;
