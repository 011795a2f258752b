//! Instance documents: the JSON that an operator writes, or copies from
//! `aws ec2 describe-instances`.
//!
//! A document is the command's whole output, one reservation of it, an array of instances, or one
//! instance. EC2's output is accepted unchanged; what EC2 does not print is in the instance's
//! `Imds` object. All faults are reported at once, each with its file, line and field.
//!
//! Refused: a key that appears twice in one object; an unknown field in `Imds`; a misspelled field
//! whose setting would be lost; two instances with one id; and values that metadata cannot show
//! (see [`faults`]). Not supported: YAML, comments, and the text and table output of the AWS CLI.
//!
//! A document goes through these files in order; only `read` reads files:
//!
//! | file | step |
//! |---|---|
//! | `read` | read files, decode them, and put the steps together |
//! | `json_file`, `json_text`, `source_map` | parse JSON; find lines and duplicate keys |
//! | `layout` | find the instances in the document |
//! | `fields`, `near_miss` | find misspelled fields |
//! | `deserialize` | turn the JSON into an instance, with all faults |
//! | `validate` | check the instance against the rules of EC2 and of imdsd |
//! | `json_path` | paths to values and faults, which all of the above use |
//! | `damaged` | what a text that cannot be read still says |
//! | `doubts` | values that are allowed but probably not intended |
//!
//! Beside them, `value` and [`export`] write instances, [`scenario`] reads scenario files, and
//! [`aemm`] reads the configuration of amazon-ec2-metadata-mock.

pub mod aemm;
mod damaged;
mod deserialize;
mod doubts;
pub mod export;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod json_file;
mod json_path;
mod json_text;
mod layout;
mod near_miss;
mod read;
pub mod scenario;
mod source_map;
mod validate;
mod value;

pub use damaged::{attachments_in, launch_tokens_in};
pub use deserialize::TIME;
pub use doubts::{doubts, profile_account};
pub use json_file::JsonFile;
pub use json_path::JsonPath;
pub use near_miss::near_miss;
pub use read::{
    DocumentFields, DocumentsRead, FaultyInstance, InstanceDocument, decode, files_at, read,
    read_document, read_path, read_texts, repeated_ids, text_at, texts_at, unreadable,
};
pub use validate::{faults, is_authorized_key, is_os_user};
pub use value::{WholeInstance, from_checked_text, from_text, from_value, sorted_text, to_value};

#[cfg(test)]
mod tests;
