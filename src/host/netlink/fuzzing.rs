//! The fuzz target of the kernel's netlink messages.

use super::links::Links;
use super::message::read_messages;
use super::own_addresses::OwnAddresses;

/// A datagram of the kernel. What is read of a part of it is what the whole begins with; the links
/// and addresses that it reports are found again.
pub fn netlink_messages(data: &[u8]) {
    let Ok(messages) = read_messages(data) else {
        return;
    };
    if let Ok(part) = read_messages(&data[..data.len() / 2]) {
        assert!(messages.starts_with(&part));
    }
    let (mut links, own) = (Links::default(), OwnAddresses::default());
    for message in &messages {
        links.apply(&message.report);
        own.apply(&message.report);
    }
    for link in links.iter() {
        assert_eq!(links.indexed(link.index), Some(link));
    }
    let version = links.version();
    assert!(version <= 2 * messages.len() as u64, "{version}");
}
