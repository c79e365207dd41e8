//! The promises of the audit journal's form.

mod exports;
mod python;
mod records;
mod trees;
