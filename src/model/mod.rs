//! The kinds under clean names, for the doors that are not kube's: one table says which kube field is which clean one,
//! and what a client writes in clean names becomes a kube object here. What is read comes out of records, parsed
//! field by field, so that a list doesn't parse what nobody asked for.

mod changes;
mod fault;
mod image;
mod input;
mod mapping;

pub use changes::{DIFF_BYTES, DIFF_CELLS, FieldChange, SHOWN_BYTES, docs_diff, image_changes};
pub use fault::{ErrorCode, Fault, faults, sort};
pub use image::{ActionView, ImageView};
pub use input::{ImageChange, Set};
pub use mapping::{Clean, MAPPING, Mapping, clean_path};
