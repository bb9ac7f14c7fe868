//! The IOContext workload: every step made to fail, bad input, keys, panics,
//! threads, and the trap; by the exact books of both sides.
//!
//! Both sides are seen under the preload library, so each test that reads the
//! books runs this program again with it.
#![cfg(all(
    feature = "cli",
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::io::{self, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};

use common::{preload_library, run, workspace};
use heapledger::iocontext::faults::{self, Failure, FaultySource};
use heapledger::iocontext::ffi::{IoContext, Memory, RawFrame, library};
use heapledger::iocontext::{
    Code, Decoder, Demuxer, Frame, FrameCache, Io, Recipe, Scene, Source, Stream, Workload,
    decode_all, generate,
};
use heapledger::{Error, Measured, Result, Side, ledger, measure};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

/// A test's own name, when it has to run again where both sides are seen.
macro_rules! on_both_sides {
    ($name:ident) => {
        let books = ledger().snapshot();
        if !(books.sees(Side::C) && books.sees(Side::Rust)) {
            again_under_the_preload(stringify!($name));
            return;
        }
    };
}

fn again_under_the_preload(test: &str) {
    let program = std::env::current_exe().expect("this program has a path");
    let output = run(Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", preload_library())
        .env_remove("HEAPLEDGER_DIR"));
    print!("{}", output.text);
    assert!(output.status.success(), "{}{}", output.text, output.error);
    assert!(output.text.contains("1 passed"), "{}", output.text);
}

/// Groups of three frames, of the sizes that fit.
fn generated(frame_count: u32, max_width: u32, max_height: u32) -> Vec<u8> {
    let recipe = Recipe {
        seed: 11,
        frame_count,
        key_interval: 3,
        max_width,
        max_height,
    };
    let mut bytes = Vec::new();
    generate(&recipe, &mut bytes).expect("a recipe that holds");
    bytes
}

/// Seven small frames in two sizes, which the library reads at once.
fn container() -> &'static [u8] {
    static CONTAINER: OnceLock<Vec<u8>> = OnceLock::new();
    CONTAINER.get_or_init(|| generated(7, 320, 192))
}

/// Frames of 1.3 and 2.1 MiB, which take many reads.
const LONG_FRAMES: usize = 8;
fn long_container() -> &'static [u8] {
    static CONTAINER: OnceLock<Vec<u8>> = OnceLock::new();
    CONTAINER.get_or_init(|| generated(LONG_FRAMES as u32, 1600, 896))
}

/// What the library itself holds, on any thread.
fn library_live_blocks() -> i64 {
    let books = ledger().snapshot();
    let of_library = books.owners().filter(|owner| {
        let library = owner.library().unwrap_or_default();
        library.contains("libiocontext")
    });
    of_library.map(|owner| owner.counts().live_blocks).sum()
}

fn code_of<T>(result: Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(Error::IoContext(code)) => code.value(),
        Err(error) => panic!("not a code of the library: {error}"),
    }
}

/// Frames outlive what they came from, as they do in real programs.
fn decode(source: impl Source + 'static) -> Result<Vec<Frame>> {
    let io = Io::new(source)?;
    let mut frames = Vec::new();
    decode_all(&io, |frame| {
        frames.push(frame);
        Ok(())
    })?;
    Ok(frames)
}

fn assert_nothing_left<R>(measured: &Measured<R>, what: &str) {
    for (side, counts) in [("c", measured.c()), ("rust", measured.rust())] {
        let left = (counts.live_blocks, counts.live_bytes);
        assert_eq!(
            left,
            (0, 0),
            "{what}: left behind on side {side}: {counts:?}"
        );
    }
}

// ---- every step fails in turn ----

/// How a whole container is decoded: C's own clean-up, or Rust's.
#[derive(Clone, Copy, Debug)]
enum Form {
    Goto,
    Guards,
}

/// What a decode ended with.
#[derive(Debug)]
enum Ending {
    Whole(usize),
    Failed,
    Panicked,
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn keep_frame(_: *mut c_void, frame: *mut RawFrame) -> c_int {
    let frame = NonNull::new(frame).expect("a frame");
    // SAFETY: the library lends a frame for the call.
    let frame = unsafe { Frame::from_borrowed(frame) };
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
    0
}

fn decode_with_goto(source: impl Source + 'static) -> Result<Vec<Frame>> {
    let io = Io::new(source)?;
    // SAFETY: the context is the library's; `keep_frame` needs no `opaque`.
    let code = unsafe { (library()?.ic_decode_all)(io.as_ptr(), keep_frame, std::ptr::null_mut()) };
    let frames = FRAMES.take();
    io.check(code)?;
    Ok(frames)
}

fn attempt(form: Form, failure: Failure) -> Ending {
    let source = FaultySource::new(Cursor::new(long_container()), failure);
    let work = || match form {
        Form::Goto => decode_with_goto(source),
        Form::Guards => decode(source),
    };
    let ending = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(frames)) => Ending::Whole(frames.len()),
        Ok(Err(_)) => Ending::Failed,
        Err(_) => Ending::Panicked,
    };
    drop(FRAMES.take());
    ending
}

/// Gives how many steps a decode has, after each has failed once.
fn sweep(form: Form, failure: Failure) -> (u64, u64) {
    let mut panics = 0;
    for failing in 1.. {
        let measured = measure(|| faults::run(failing, || attempt(form, failure)));
        let (ending, taken) = &measured.result;
        assert_nothing_left(&measured, &format!("{form:?}, {failure:?}, step {failing}"));
        match ending {
            Ending::Whole(frames) => {
                assert_eq!((*frames, *taken), (LONG_FRAMES, failing - 1));
                return (*taken, panics);
            }
            Ending::Failed => {}
            Ending::Panicked => panics += 1,
        }
        assert!(*taken >= failing, "step {failing} was not reached");
    }
    unreachable!("a decode ends");
}

#[test]
fn each_step_of_a_decode_may_fail_and_nothing_is_left_behind() {
    on_both_sides!(each_step_of_a_decode_may_fail_and_nothing_is_left_behind);
    // SAFETY: the only test in this process, and nothing was made yet but the container below.
    unsafe { faults::count_allocations() }.expect("the library loads");
    long_container();
    // What is made once and kept: the table of keys, the unwinder's caches.
    for form in [Form::Goto, Form::Guards] {
        attempt(form, Failure::Error);
        faults::run(3, || attempt(form, Failure::Panic));
    }
    let foreign = ledger().snapshot().foreign_frees();
    for form in [Form::Goto, Form::Guards] {
        let (steps, panics) = sweep(form, Failure::Error);
        assert_eq!(panics, 0);
        let (same_steps, callbacks) = sweep(form, Failure::Panic);
        assert_eq!(same_steps, steps);
        assert!(
            callbacks > 10 && steps > 40,
            "{steps} steps, {callbacks} callbacks"
        );
        println!(
            "{form:?}: {steps} steps, {} allocations and {callbacks} callbacks; each failed, nothing left",
            steps - callbacks
        );
    }
    // A double free is a free of a block that the ledger does not know any more.
    assert_eq!(ledger().snapshot().foreign_frees(), foreign);
}

/// What the library frees, in order, by the number of the allocation; and when the source goes.
mod frees {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::ffi::c_void;

    #[derive(Default)]
    struct Log {
        taken: HashMap<usize, u64>,
        count: u64,
        /// The allocation to fail; 0: none.
        failing: u64,
        freed: Vec<u64>,
    }

    thread_local! {
        static LOG: RefCell<Log> = RefCell::default();
    }

    /// Stands for the source among the numbers.
    pub const SOURCE: u64 = 0;

    pub fn note(number: u64) {
        LOG.with_borrow_mut(|log| log.freed.push(number));
    }

    /// Gives what `work` frees, and how many allocations it tries.
    pub fn of(failing: u64, work: impl FnOnce()) -> (Vec<u64>, u64) {
        LOG.set(Log {
            failing,
            ..Log::default()
        });
        work();
        let log = LOG.take();
        assert!(log.taken.is_empty(), "left behind: {:?}", log.taken);
        (log.freed, log.count)
    }

    fn take(from: impl FnOnce() -> *mut c_void) -> *mut c_void {
        LOG.with_borrow_mut(|log| {
            log.count += 1;
            if log.count == log.failing {
                return std::ptr::null_mut();
            }
            let block = from();
            log.taken.insert(block as usize, log.count);
            block
        })
    }

    pub unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
        // SAFETY: as the library's call of malloc.
        take(|| unsafe { libc::malloc(bytes) })
    }

    pub unsafe extern "C" fn calloc(count: usize, bytes: usize) -> *mut c_void {
        // SAFETY: as the library's call of calloc.
        take(|| unsafe { libc::calloc(count, bytes) })
    }

    pub unsafe extern "C" fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
        // SAFETY: as the library's call of realloc.
        let moved = take(|| unsafe { libc::realloc(block, bytes) });
        if !moved.is_null() && moved != block {
            LOG.with_borrow_mut(|log| log.taken.remove(&(block as usize)));
        }
        moved
    }

    pub unsafe extern "C" fn free(block: *mut c_void) {
        LOG.with_borrow_mut(|log| {
            let number = log.taken.remove(&(block as usize));
            assert!(number.is_some() || block.is_null(), "freed twice");
            log.freed.extend(number);
        });
        // SAFETY: as the library's call of free.
        unsafe { libc::free(block) }
    }
}

unsafe extern "C" fn pass(_: *mut c_void, _: *mut RawFrame) -> c_int {
    0
}

#[test]
fn guards_free_in_the_very_order_of_the_goto_form() {
    on_both_sides!(guards_free_in_the_very_order_of_the_goto_form);
    struct Noted<S>(S);
    impl<S> Drop for Noted<S> {
        fn drop(&mut self) {
            frees::note(frees::SOURCE);
        }
    }
    impl<S: Source> Source for Noted<S> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
        fn seek(&mut self, offset: u64) -> io::Result<u64> {
            self.0.seek(offset)
        }
        fn size(&mut self) -> io::Result<Option<u64>> {
            self.0.size()
        }
    }
    let decode = |form: Form, failure: Failure| {
        let work = || -> Result<()> {
            let source = FaultySource::new(Cursor::new(long_container()), failure);
            let io = Io::new(Noted(source))?;
            match form {
                Form::Guards => decode_all(&io, |_| Ok(())),
                // SAFETY: the context is the library's; `pass` needs no `opaque`.
                Form::Goto => io.check(unsafe {
                    (library()?.ic_decode_all)(io.as_ptr(), pass, std::ptr::null_mut())
                }),
            }
        };
        let _ = catch_unwind(AssertUnwindSafe(work));
    };
    long_container();
    let memory = Memory {
        malloc: frees::malloc,
        calloc: frees::calloc,
        realloc: frees::realloc,
        free: frees::free,
    };
    // SAFETY: the only test in this process, and no object exists.
    unsafe { (library().unwrap().ic_set_memory)(&memory) };

    let both = |allocation: u64, callback: u64, failure: Failure| {
        let [goto, guards] = [Form::Goto, Form::Guards].map(|form| {
            let work = || faults::run(callback, || decode(form, failure)).1;
            let mut callbacks = 0;
            let (freed, allocations) = frees::of(allocation, || callbacks = work());
            (freed, allocations, callbacks)
        });
        assert_eq!(goto, guards, "{failure:?} {allocation} {callback}");
        guards
    };
    let (freed, allocations, callbacks) = both(0, 0, Failure::Error);
    assert!(allocations > 30 && callbacks > 10);
    // The IOContext came first; behind it only what its key stands for.
    assert_eq!(freed[freed.len() - 2..], [1, frees::SOURCE]);
    for allocation in 1..=allocations {
        both(allocation, 0, Failure::Error);
    }
    for callback in 1..=callbacks {
        both(0, callback, Failure::Error);
        both(0, callback, Failure::Panic);
    }
}

#[test]
fn guards_free_in_the_reverse_order_of_acquisition() {
    thread_local! {
        static ORDER: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }
    struct Noted(Cursor<&'static [u8]>);
    impl Drop for Noted {
        fn drop(&mut self) {
            ORDER.with_borrow_mut(|order| order.push("source"));
        }
    }
    impl Source for Noted {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            Source::read(&mut self.0, into)
        }
        fn seek(&mut self, offset: u64) -> io::Result<u64> {
            Source::seek(&mut self.0, offset)
        }
        fn size(&mut self) -> io::Result<Option<u64>> {
            Source::size(&mut self.0)
        }
    }
    let leave = |how: fn() -> Result<()>| -> Result<()> {
        let io = Io::new(Noted(Cursor::new(container())))?;
        let _later = scopeguard_note("after io");
        let _stream = Stream::open(&io)?;
        let _last = scopeguard_note("after stream");
        how()
    };
    fn scopeguard_note(name: &'static str) -> impl Drop {
        struct Note(&'static str);
        impl Drop for Note {
            fn drop(&mut self) {
                ORDER.with_borrow_mut(|order| order.push(self.0));
            }
        }
        Note(name)
    }
    let expected = ["after stream", "after io", "source"];
    leave(|| Ok(())).unwrap();
    assert_eq!(ORDER.take(), expected);
    assert!(leave(|| Err(Error::NotALedger)).is_err());
    assert_eq!(ORDER.take(), expected);
    catch_unwind(AssertUnwindSafe(|| {
        leave(|| std::panic::resume_unwind(Box::new(())))
    }))
    .unwrap_err();
    assert_eq!(ORDER.take(), expected);
}

// ---- keys ----

#[test]
fn a_stale_or_invented_key_gives_an_error_code() {
    let io = Io::new(Cursor::new(container())).unwrap();
    // SAFETY: the context is the library's and alive; it is plain data.
    let copy = unsafe { io.as_ptr().read() };
    let read = copy.read.unwrap();
    let mut buffer = [0u8; 16];
    // SAFETY: the buffer has 16 bytes.
    let mut ask = |key: usize| unsafe { read(key as *mut c_void, buffer.as_mut_ptr(), 16) };
    assert_eq!(ask(copy.opaque as usize), 16);
    drop(io);
    assert_eq!(ask(copy.opaque as usize), Code::HANDLE.value(), "stale");

    let next = Io::new(Cursor::new(container())).unwrap();
    assert_eq!(
        ask(copy.opaque as usize),
        Code::HANDLE.value(),
        "its slot is used again"
    );
    for invented in [
        0,
        1,
        42,
        usize::MAX,
        1 << 32,
        u32::MAX as usize,
        &raw const next as usize,
    ] {
        assert_eq!(ask(invented), Code::HANDLE.value(), "{invented:#x}");
    }
    let whole = with_context(&copy, |context| {
        let mut demuxer = std::ptr::null_mut();
        // SAFETY: the context is whole, and its key merely stale.
        let code = unsafe { (library().unwrap().ic_demuxer_open)(&mut demuxer, context) };
        assert!(demuxer.is_null());
        code
    });
    assert_eq!(whole, Code::HANDLE.value(), "through the library");
}

/// Lends the library a context with the fields of another.
fn with_context(fields: &IoContext, work: impl FnOnce(*mut IoContext) -> c_int) -> c_int {
    let mut context = IoContext { ..*fields };
    work(&mut context)
}

#[test]
fn many_threads_open_read_and_close_at_once() {
    let sum = |frames: &[Frame]| {
        frames
            .iter()
            .map(Frame::checksum)
            .fold(0, u64::wrapping_add)
    };
    let expected = sum(&decode(Cursor::new(container())).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(sum(&decode(Cursor::new(container())).unwrap()), expected);
                }
            });
        }
    });
}

// ---- callbacks ----

/// Plays a script before it behaves: what to do instead of each read, seek or size.
struct Scripted {
    inner: Cursor<&'static [u8]>,
    read: fn(&mut Cursor<&'static [u8]>, &mut [u8]) -> io::Result<usize>,
    seek: fn(&mut Cursor<&'static [u8]>, u64) -> io::Result<u64>,
    size: fn(&mut Cursor<&'static [u8]>) -> io::Result<Option<u64>>,
}

impl Scripted {
    fn new() -> Scripted {
        Scripted {
            inner: Cursor::new(container()),
            read: |inner, into| Source::read(inner, into),
            seek: |inner, offset| Source::seek(inner, offset),
            size: |inner| Source::size(inner),
        }
    }
}

impl Source for Scripted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.read)(&mut self.inner, into)
    }

    fn seek(&mut self, offset: u64) -> io::Result<u64> {
        (self.seek)(&mut self.inner, offset)
    }

    fn size(&mut self) -> io::Result<Option<u64>> {
        (self.size)(&mut self.inner)
    }
}

/// Decodes what a scripted source gives; the books must be even afterwards.
fn scripted(change: fn(&mut Scripted)) -> Result<usize> {
    let work = || {
        let mut source = Scripted::new();
        change(&mut source);
        decode(source).map(|frames| frames.len())
    };
    let _ = work();
    let measured = measure(work);
    assert_nothing_left(&measured, "scripted");
    measured.result
}

#[test]
fn callbacks_may_return_anything() {
    on_both_sides!(callbacks_may_return_anything);
    container();
    let byte_wise = scripted(|source| {
        source.read = |inner, into| Source::read(inner, &mut into[..1]);
    });
    assert_eq!(byte_wise.unwrap(), 7, "a byte at a time");
    let unknown = scripted(|source| source.size = |_| Ok(None));
    assert_eq!(unknown.unwrap(), 7, "of unknown size");
    let too_much = scripted(|source| source.read = |_, into| Ok(into.len() + 1));
    assert_eq!(
        code_of(too_much),
        Code::CALLBACK.value(),
        "more than there is room for"
    );
    let absurd = scripted(|source| source.read = |_, _| Ok(usize::MAX));
    assert_eq!(
        code_of(absurd),
        Code::CALLBACK.value(),
        "more than an int holds"
    );
    let nothing = scripted(|source| source.read = |_, _| Ok(0));
    assert_eq!(
        code_of(nothing),
        Code::TRUNCATED.value(),
        "the end, at once"
    );
    let elsewhere = scripted(|source| source.seek = |_, offset| Ok(offset + 1));
    assert_eq!(
        code_of(elsewhere),
        Code::CALLBACK.value(),
        "another position"
    );
    let short = scripted(|source| source.size = |_| Ok(Some(100)));
    assert_eq!(
        code_of(short),
        Code::TRUNCATED.value(),
        "a size that cannot be"
    );
    let huge = scripted(|source| source.size = |_| Ok(Some(u64::MAX)));
    assert_eq!(huge.unwrap(), 7, "larger than it is");
    let failing = scripted(|source| source.read = |_, _| Err(io::ErrorKind::TimedOut.into()));
    assert!(
        matches!(failing, Err(Error::Source(error)) if error.kind() == io::ErrorKind::TimedOut),
        "the source's own error comes back"
    );
}

#[test]
fn a_callback_that_comes_back_to_its_own_source_gets_an_error() {
    thread_local! {
        static OWN: RefCell<Option<Rc<Io>>> = const { RefCell::new(None) };
    }
    let source = Scripted {
        read: |inner, into| {
            let own = OWN.with_borrow(Option::clone).expect("set below");
            let nested = own.probe().map(drop);
            assert_eq!(code_of(nested), Code::IO.value());
            Source::read(inner, into)
        },
        ..Scripted::new()
    };
    let io = Rc::new(Io::new(source).unwrap());
    OWN.set(Some(Rc::clone(&io)));
    assert_eq!(io.probe().unwrap().frame_count, 7);
    OWN.set(None);
}

#[test]
fn an_argument_that_is_missing_is_refused_and_gives_no_object() {
    let library = library().unwrap();
    let mut packet = NonNull::dangling().as_ptr();
    let mut frame = NonNull::dangling().as_ptr();
    let mut decoder = NonNull::dangling().as_ptr();
    // SAFETY: the library refuses each call before it looks at anything.
    let codes = unsafe {
        [
            (library.ic_demuxer_read)(std::ptr::null_mut(), &mut packet),
            (library.ic_decoder_open)(&mut decoder, std::ptr::null()),
            (library.ic_decoder_decode)(std::ptr::null_mut(), std::ptr::null(), &mut frame),
        ]
    };
    assert_eq!(codes, [Code::ARGUMENT.value(); 3]);
    assert!(packet.is_null() && decoder.is_null() && frame.is_null());
}

#[test]
fn a_seek_beyond_the_end_is_refused_and_changes_nothing() {
    let io = Io::new(Cursor::new(container())).unwrap();
    let mut demuxer = Demuxer::open(&io).unwrap();
    assert_eq!(code_of(demuxer.seek(7)), Code::SEEK.value());
    assert_eq!(code_of(demuxer.seek(u32::MAX)), Code::SEEK.value());
    assert_eq!(demuxer.read().unwrap().unwrap().number(), 0);
    assert_eq!(demuxer.seek(5).unwrap(), 3, "the key frame before it");
    assert_eq!(demuxer.read().unwrap().unwrap().number(), 3);
}

#[test]
fn a_panic_goes_on_behind_the_library_as_it_was() {
    let source = Scripted {
        read: |_, _| std::panic::resume_unwind(Box::new("in the middle")),
        ..Scripted::new()
    };
    let panic = catch_unwind(AssertUnwindSafe(|| decode(source).map(drop))).unwrap_err();
    let panic: Box<dyn Any> = panic;
    assert_eq!(*panic.downcast::<&str>().unwrap(), "in the middle");
}

// ---- bad containers ----

#[test]
fn a_container_cut_anywhere_gives_an_error_and_leaves_nothing() {
    on_both_sides!(a_container_cut_anywhere_gives_an_error_and_leaves_nothing);
    let whole = container();
    let _ = decode(Cursor::new(&whole[..10]));
    for length in 0..whole.len() {
        let measured = measure(|| code_of(decode(Cursor::new(&whole[..length]))));
        assert_eq!(
            measured.result,
            Code::TRUNCATED.value(),
            "cut after {length} bytes"
        );
        assert_nothing_left(&measured, &format!("cut after {length} bytes"));
    }
    // Where nobody knows the size, the library has to run into the end.
    for length in (0..whole.len()).step_by(13) {
        let source = Scripted {
            inner: Cursor::new(&whole[..length]),
            size: |_| Ok(None),
            ..Scripted::new()
        };
        let measured = measure(|| code_of(decode(source)));
        let what = format!("cut after {length} bytes, of unknown size");
        assert_eq!(measured.result, Code::TRUNCATED.value(), "{what}");
        assert_nothing_left(&measured, &what);
    }
}

/// `ic_checksum` of library.c, said once more.
fn checksum(data: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = data.len() as u64;
    let mut lanes = [bytes, PRIME, !bytes, !PRIME];
    let whole = data.chunks_exact(32);
    let rest = whole.remainder();
    for chunk in whole {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            *lane = (*lane ^ word).wrapping_mul(PRIME) ^ (word >> 29);
        }
    }
    for (at, byte) in rest.iter().enumerate() {
        lanes[at % 4] = (lanes[at % 4] ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    let sum = lanes.iter().fold(0u64, |sum, lane| {
        (sum ^ lane ^ (lane >> 31)).wrapping_mul(PRIME)
    });
    sum ^ (sum >> 32)
}

const AT_FRAME_COUNT: usize = 8;
const AT_MAX_WIDTH: usize = 12;
const AT_MAX_PACKET: usize = 20;
const AT_INDEX_OFFSET: usize = 32;
const AT_CHECKSUM: usize = 40;
const HEADER_BYTES: usize = 320;

/// Makes the header's checksum right again.
fn seal(container: &mut [u8]) {
    container[AT_CHECKSUM..AT_CHECKSUM + 8].fill(0);
    let sum = checksum(&container[..HEADER_BYTES]);
    container[AT_CHECKSUM..AT_CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn absurd_sizes_in_the_header_are_refused_before_memory_is_taken() {
    on_both_sides!(absurd_sizes_in_the_header_are_refused_before_memory_is_taken);
    let _ = decode(Cursor::new(&container()[..10]));
    let absurd: [(usize, u64, usize, Code); 7] = [
        (AT_FRAME_COUNT, 0xffff_ffff, 4, Code::LIMIT),
        (AT_FRAME_COUNT, 0, 4, Code::CORRUPT),
        (AT_MAX_WIDTH, 0xffff_fff0, 4, Code::LIMIT),
        (AT_MAX_WIDTH, 17, 4, Code::CORRUPT),
        (AT_MAX_PACKET, 0x7fff_ffff, 4, Code::LIMIT),
        (AT_INDEX_OFFSET, u64::MAX, 8, Code::LIMIT),
        (AT_INDEX_OFFSET, 1, 8, Code::CORRUPT),
    ];
    for known_size in [true, false] {
        for (at, value, bytes, expected) in absurd {
            let mut damaged = container().to_vec();
            damaged[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            seal(&mut damaged);
            let damaged: &'static [u8] = damaged.leak();
            let source = move || Scripted {
                inner: Cursor::new(damaged),
                size: if known_size {
                    |inner| Source::size(inner)
                } else {
                    |_| Ok(None)
                },
                ..Scripted::new()
            };
            let measured = measure(|| code_of(decode(source())));
            assert_eq!(measured.result, expected.value(), "{value:#x} at {at}");
            assert_nothing_left(&measured, "an absurd header");
            let taken = measured.all().allocated_bytes;
            assert!(taken < 4096, "{value:#x} at {at} took {taken} bytes");
        }
    }
}

#[test]
fn an_index_that_is_not_there_takes_no_memory_for_what_it_promises() {
    on_both_sides!(an_index_that_is_not_there_takes_no_memory_for_what_it_promises);
    let _ = decode(Cursor::new(&container()[..10]));
    let mut damaged = container().to_vec();
    damaged[AT_FRAME_COUNT..AT_FRAME_COUNT + 4].copy_from_slice(&(1u32 << 20).to_le_bytes());
    seal(&mut damaged);
    // The index itself agrees with the header; its million entries are not there.
    let index = u64::from_le_bytes(damaged[AT_INDEX_OFFSET..][..8].try_into().unwrap()) as usize;
    damaged[index + 4..index + 8].copy_from_slice(&(1u32 << 20).to_le_bytes());
    let damaged: &'static [u8] = damaged.leak();
    let source = || Scripted {
        inner: Cursor::new(damaged),
        size: |_| Ok(None),
        ..Scripted::new()
    };
    let measured = measure(|| code_of(decode(source())));
    assert_ne!(measured.result, 0);
    assert_nothing_left(&measured, "a promised index");
    let taken = measured.c().allocated_bytes;
    assert!(taken < 64 << 10, "{taken} bytes for 7 entries");
}

#[test]
fn each_damaged_byte_gives_an_error_or_changes_nothing() {
    on_both_sides!(each_damaged_byte_gives_an_error_or_changes_nothing);
    let sums = |frames: Vec<Frame>| frames.iter().map(Frame::checksum).collect::<Vec<_>>();
    let expected = sums(decode(Cursor::new(container())).unwrap());
    let mut damaged = container().to_vec();
    let mut unnoticed = 0;
    for at in 0..damaged.len() {
        damaged[at] ^= 0x41;
        let bytes: Arc<[u8]> = Arc::from(&damaged[..]);
        let measured = measure(|| match decode(Cursor::new(bytes)) {
            Ok(frames) => sums(frames) == expected,
            Err(Error::IoContext(_)) => false,
            Err(error) => panic!("byte {at}: {error}"),
        });
        unnoticed += usize::from(measured.result);
        assert_eq!(measured.c().live_blocks, 0, "byte {at}");
        damaged[at] ^= 0x41;
    }
    // Four bytes of each packet's head are kept for later.
    assert_eq!(unnoticed, 4 * 7);
}

#[test]
fn the_parser_survives_whatever_it_is_given() {
    on_both_sides!(the_parser_survives_whatever_it_is_given);
    let _ = decode(Cursor::new(container()));
    #[derive(Clone, Debug)]
    enum Change {
        Set(prop::sample::Index, u8),
        Cut(prop::sample::Index),
        Insert(prop::sample::Index, Vec<u8>),
        Number(prop::sample::Index, u32),
    }
    let change = prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        any::<prop::sample::Index>().prop_map(Change::Cut),
        (any::<prop::sample::Index>(), vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<prop::sample::Index>(), any::<u32>())
            .prop_map(|(at, number)| Change::Number(at, number)),
    ];
    let apply = |bytes: &mut Vec<u8>, change: &Change| match change {
        Change::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len()).max(1)),
        Change::Insert(at, more) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Number(at, number) => {
            let at = at.index(bytes.len());
            for (byte, new) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                *byte = new;
            }
        }
    };
    let mut runner = TestRunner::new(Config::with_cases(2000));
    let cases = (vec(change, 1..6), any::<bool>());
    runner
        .run(&cases, |(changes, sealed)| {
            let mut bytes = container().to_vec();
            changes.iter().for_each(|change| apply(&mut bytes, change));
            if sealed && bytes.len() >= HEADER_BYTES {
                seal(&mut bytes);
            }
            // This thread's alone: what the tests' runner does meanwhile is its own.
            let measured = measure(|| matches!(decode(Cursor::new(bytes)), Err(Error::Source(_))));
            prop_assert!(!measured.result);
            prop_assert_eq!(measured.c().live_blocks, 0);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_decoder_survives_any_payload() {
    on_both_sides!(the_decoder_survives_any_payload);
    let _ = decode(Cursor::new(container()));
    let mut runner = TestRunner::new(Config::with_cases(2000));
    let payload = vec(any::<(prop::sample::Index, u8)>(), 1..20);
    runner
        .run(&(0..7u32, payload), |(number, changes)| {
            let measured = measure(|| -> std::result::Result<(), TestCaseError> {
                let io = Io::new(Cursor::new(container())).unwrap();
                let mut demuxer = Demuxer::open(&io).unwrap();
                let mut decoder = Decoder::open(demuxer.info()).unwrap();
                while let Some(mut packet) = demuxer.read().unwrap() {
                    let is_target = packet.number() == number;
                    if is_target {
                        let payload = packet.payload_mut();
                        for (at, byte) in &changes {
                            payload[at.index(payload.len())] = *byte;
                        }
                    }
                    match decoder.decode(&packet) {
                        Ok(_) => {}
                        Err(Error::IoContext(Code::CORRUPT)) => {
                            prop_assert!(packet.number() >= number)
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Ok(())
            });
            prop_assert_eq!(measured.c().live_blocks, 0);
            measured.result
        })
        .unwrap();
}

#[test]
fn damage_makes_the_library_touch_no_byte_that_is_not_its_own() {
    const TEST: &str = "damage_makes_the_library_touch_no_byte_that_is_not_its_own";
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let directory = workspace("iocontext_damage");
    let probe = directory.join("probe.c");
    std::fs::write(&probe, "int main(void) { return 0; }").unwrap();
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler
        .args(sanitizers)
        .arg(probe)
        .arg("-o")
        .arg(directory.join("probe"));
    needs!(
        TEST,
        run(&mut compiler).status.success(),
        "the compiler's sanitizers"
    );

    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/iocontext");
    let sources = ["library.c", "codec.c", "generator.c"].map(|file| library.join(file));
    let program = common::program("iocontext_damage.c")
        .flags(sanitizers)
        .flags([Path::new("-D_GNU_SOURCE"), Path::new("-I"), &library])
        .flags(sources)
        .build(&directory);
    let output = run(&mut Command::new(program));
    assert!(output.status.success(), "{}{}", output.text, output.error);
    assert_eq!(output.text, "3000 damaged containers, some decoded\n");
}

// ---- the trap ----

#[test]
fn a_cache_that_counts_what_rust_sees_lets_c_grow() {
    on_both_sides!(a_cache_that_counts_what_rust_sees_lets_c_grow);
    let workload = Workload {
        frames: 24,
        threads: 2,
        seed: 3,
    };
    let file = workload.container().unwrap();
    let cache = FrameCache::new(64 << 10);
    let before = ledger().snapshot();
    let decoded = workload.run(&file, |frame| cache.insert(frame)).unwrap();
    let after = ledger().snapshot();
    assert_eq!((decoded.frames, cache.len()), (24, 24));
    let c = after.c().live_bytes - before.c().live_bytes;
    let rust = after.rust().live_bytes - before.rust().live_bytes;
    assert!(
        c > decoded.frame_bytes as i64,
        "{c} of {}",
        decoded.frame_bytes
    );
    assert!(rust < 8 << 10, "{rust} bytes");
    assert!(cache.visible_bytes() < 100 * cache.len());
    while cache.evict().is_some() {}
    assert_eq!(
        library_live_blocks(),
        0,
        "all of it is freed with the cache"
    );
}

#[test]
fn the_cache_keeps_the_budget_that_it_counts() {
    let cache = FrameCache::new(200);
    for frame in decode(Cursor::new(container())).unwrap() {
        cache.insert(frame);
        assert!(cache.visible_bytes() <= cache.budget_bytes());
    }
    assert!(cache.len() > 1 && cache.len() < 7, "{}", cache.len());
    let oldest = cache.evict().unwrap().frame.number();
    assert_eq!(oldest as usize, 7 - cache.len() - 1);
    while cache.evict().is_some() {}
    assert!(cache.is_empty());
    assert_eq!(cache.visible_bytes(), 0);
}

#[test]
fn a_scene_is_a_cycle_that_only_dissolving_ends() {
    on_both_sides!(a_scene_is_a_cycle_that_only_dissolving_ends);
    let work = |dissolve: bool| {
        let scene = Arc::new(Scene::default());
        for frame in decode(Cursor::new(container())).unwrap() {
            Scene::add(&scene, frame);
        }
        if dissolve {
            assert_eq!(scene.dissolve().len(), 7);
        }
    };
    work(true);
    assert_nothing_left(&measure(|| work(true)), "dissolved");
    let leaked = measure(|| work(false));
    // A header and a buffer a frame, and the pool that they go back to.
    assert_eq!(leaked.c().live_blocks, 2 * 7 + 1);
    assert!(leaked.rust().live_bytes < 2000);
}

#[test]
fn the_same_seed_makes_the_same_container() {
    let make = |seed| {
        let mut bytes = Vec::new();
        let recipe = Recipe {
            frame_count: 2,
            ..Workload {
                frames: 2,
                threads: 1,
                seed,
            }
            .recipe()
        };
        generate(&recipe, &mut bytes).unwrap();
        bytes
    };
    let first = make(5);
    assert_eq!(first, make(5));
    assert_ne!(first, make(6));
    assert_eq!(
        checksum(container()),
        13_980_439_370_529_602_271,
        "the bytes of this recipe, on every machine"
    );
}

#[test]
fn a_writer_that_fails_gets_its_own_error_back() {
    struct Full(Mutex<usize>);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut left = self.0.lock().unwrap();
            *left = left
                .checked_sub(bytes.len())
                .ok_or(io::Error::from(io::ErrorKind::StorageFull))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let recipe = Workload {
        frames: 3,
        threads: 1,
        seed: 1,
    }
    .recipe();
    let result = generate(&recipe, &mut Full(Mutex::new(1000)));
    assert!(
        matches!(result, Err(Error::Source(error)) if error.kind() == io::ErrorKind::StorageFull)
    );
    let nothing = Recipe {
        frame_count: 0,
        ..recipe
    };
    assert_eq!(
        code_of(generate(&nothing, &mut Vec::new())),
        Code::ARGUMENT.value()
    );
    let endless = Recipe {
        frame_count: u32::MAX,
        ..recipe
    };
    assert_eq!(
        code_of(generate(&endless, &mut Vec::new())),
        Code::LIMIT.value()
    );
}
