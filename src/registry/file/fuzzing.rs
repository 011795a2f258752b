//! The fuzz target of stored records.

use super::format::{decode, encode, seal};
use crate::instance::InstanceId;
use crate::registry::record::Record;

/// The instance whose record it is.
const ID: &str = "i-0123456789abcdef0";

/// A file of the store. The input is such a file, or a record that gets its envelope here; before it
/// are a place (2 bytes) and a byte. A record that is read and written is the same, and after a
/// change of one byte it is refused or still the same.
pub fn store_record(data: &[u8]) {
    let Some((&[high, low, byte], input)) = data.split_first_chunk() else {
        return;
    };
    let id = InstanceId::parse(ID).expect("an instance id");
    let raw = decode(input, &id);
    let sealed = serde_json::from_slice::<&serde_json::value::RawValue>(input)
        .ok()
        .and_then(|record| decode(&seal(&record), &id).ok());
    for record in [raw.ok(), sealed].into_iter().flatten() {
        check(
            &record,
            &id,
            usize::from(u16::from_be_bytes([high, low])),
            byte,
        );
    }
}

fn check(record: &Record, id: &InstanceId, place: usize, byte: u8) {
    assert_eq!(record.instance.instance_id, *id);
    let mut file = encode(record);
    assert_eq!(decode(&file, id).as_ref(), Ok(record));
    let other = InstanceId::parse("i-00000001").expect("an instance id");
    assert!(
        decode(&file, &other).is_err(),
        "a record of another instance"
    );

    let place = place % file.len();
    file[place] = byte;
    if let Ok(changed) = decode(&file, id) {
        assert_eq!(&changed, record, "byte {place} is {byte}");
    }
    file.truncate(place);
    // The line feed at the end does not belong to the record.
    if let Ok(shorter) = decode(&file, id) {
        assert_eq!(&shorter, record, "cut off at byte {place}");
    }
}
