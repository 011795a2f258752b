//! What an instance costs in memory, and reading a document in allocations, counted exactly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use imdsd::document;
use imdsd::registry::Record;

/// The output of `aws ec2 describe-instances` for one instance.
const DOCUMENT: &str = include_str!("../../config/instances/web-1.json");

/// The system's allocator, which counts what the current thread has.
struct CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise is the one that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the memory came from `alloc` above, and so from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Returns what `work` returns, the bytes that it keeps, and its number of allocations.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (bytes, allocations) = (BYTES.get(), ALLOCATIONS.get());
    let result = work();
    (
        result,
        BYTES.get().wrapping_sub(bytes),
        ALLOCATIONS.get() - allocations,
    )
}

#[test]
fn a_record_that_was_read_keeps_few_bytes() {
    let file = Path::new("web-1.json");
    let instance = document::read(file, DOCUMENT).unwrap().remove(0);
    let text = document::to_value(&instance).to_string();
    let (read, kept, allocations) = counted(|| document::from_text(&text).unwrap());
    assert_eq!(read, {
        let mut recorded = instance.clone();
        recorded.named_options = read.named_options;
        recorded
    });
    let whole = kept + size_of::<Record>();
    println!("{whole} bytes kept, {allocations} allocations");
    assert!(whole < 5 * 1024, "{whole} bytes for {} of text", text.len());
    assert!(allocations < 400, "{allocations} allocations");
}

#[test]
fn a_document_without_faults_is_read_with_few_allocations() {
    let file = Path::new("web-1.json");
    let (read, _, allocations) = counted(|| document::read_document(file, DOCUMENT));
    assert!(read.faults.is_empty());
    println!("{allocations} allocations for {} bytes", DOCUMENT.len());
    assert!(allocations < 2_500, "{allocations} allocations");
}
