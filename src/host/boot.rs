//! The identity of this boot of the host. Indexes of links and times since boot mean something in one
//! boot only.

/// Returns the kernel's identity of this boot, a UUID; empty if it cannot be read. Nothing is valid
/// for an empty one.
pub fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|text| text.trim().to_string()).unwrap_or_default()
}
