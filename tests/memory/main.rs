//! What an instance costs in memory, and reading a document in allocations, counted exactly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use imdsd::document;
use imdsd::instance::Attachment;
use imdsd::instance::identity_document::identity_document;
use imdsd::registry::{Entry, Record, TextPool, document_digest};

/// The output of `aws ec2 describe-instances` for one instance.
const DOCUMENT: &str = include_str!("../../config/instances/web-1.json");

/// The system's allocator, which counts what the current thread has.
struct CountingAllocator;

thread_local! {
    static BLOCKS: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BLOCKS.set(BLOCKS.get().wrapping_add(1));
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise is the one that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BLOCKS.set(BLOCKS.get().wrapping_sub(1));
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
    assert!(whole < 5_000, "{whole} bytes for {} of text", text.len());
    assert!(allocations < 400, "{allocations} allocations");
}

/// What an instance keeps beside another whose texts it shares: the record, its lists, the ids and
/// names that only this instance has, and the identity document.
#[test]
fn a_record_beside_others_keeps_few_bytes_in_few_blocks() {
    let file = Path::new("web-1.json");
    let instance = document::read(file, DOCUMENT).unwrap().remove(0);
    let text = document::to_value(&instance).to_string();
    let texts = TextPool::default();
    let entry = || {
        let mut instance = document::from_text(&text).unwrap();
        texts.share(&mut instance);
        Entry::of_record(Record {
            generation: 1,
            launch_epoch: 1,
            identity_document: identity_document(&instance),
            document_digest: document_digest(&instance),
            launch_request: None,
            terminated: None,
            changed: instance.launch_time,
            instance,
        })
    };
    let first = entry();
    let blocks_before = BLOCKS.get();
    let (second, kept, _) = counted(entry);
    let blocks = BLOCKS.get().wrapping_sub(blocks_before);
    assert_eq!(second.instance, first.instance);
    println!("{kept} bytes in {blocks} blocks");
    println!("{} bytes an attachment", size_of::<Attachment>());
    assert!(kept <= 2_304, "{kept} bytes");
    assert!(blocks <= 16, "{blocks} blocks");
}

#[test]
fn a_document_without_faults_is_read_with_few_allocations() {
    let file = Path::new("web-1.json");
    let (read, _, allocations) = counted(|| document::read_document(file, DOCUMENT));
    assert!(read.faults.is_empty());
    println!("{allocations} allocations for {} bytes", DOCUMENT.len());
    assert!(allocations < 2_500, "{allocations} allocations");
}
