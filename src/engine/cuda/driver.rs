//! The GPU as a [`Device`]: context, memory, module, stream, graphs, clocks.
//!
//! In: a device number. Out: memory and launches on one stream of one thread. Everything it made goes with it; so does
//! the device's primary context, if nobody else in the process holds it: after an error that sticks to a context (a
//! fault of a kernel, a lost device) the next [`Gpu::open`] begins with a new one.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use cudarc::driver::result::{
    self, ctx, device, event, free_async, function, graph, malloc_async, malloc_host, malloc_sync, mem_pool,
    memcpy_dtoh_async, memcpy_htod_async, module, primary_ctx, stream,
};
use cudarc::driver::{DriverError, sys};

use super::codes;
use super::launch::{Device, Kernel, Launch};
use super::params::{Address, Spin};
#[cfg(feature = "candle-cuda")]
use crate::Fault;
use crate::{Error, Result};

/// The kernels, compiled when this crate was: machine code for every architecture named in `build.rs`, and PTX for what
/// comes later.
static MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// Runs of a launch whose time is wanted: so many at a stretch, and so many stretches.
const STRETCH: usize = 10;
const STRETCHES: usize = 7;

pub(crate) struct Gpu {
    ordinal: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    functions: HashMap<Kernel, sys::CUfunction>,
    memory: Vec<sys::CUdeviceptr>,
    pinned: Vec<*mut c_void>,
    processors: usize,
    /// Where the clock's kernel puts what it counts; 0 before it is asked.
    ticks: Address,
    /// Whether the loaded kernels wait by themselves for what they need (`let_next_begin` and `await_previous` in
    /// `kernels/device.h`), so that one may begin while the one before it still runs: those for Hopper and later.
    can_overlap: bool,
    /// Whether they are launched so. Off unless a benchmark asks: on an H200 a frame took as long either way.
    programmatic: bool,
    /// The stream's last entry is a kernel that says when the next may begin.
    behind_kernel: bool,
    /// The driver's pool was told to keep what is given back to it.
    pooled: bool,
}

// SAFETY: driver handles belong to a context, not to a thread; every use makes the context current first.
unsafe impl Send for Gpu {}

/// Page-locked memory of the host, as long-lived as its [`Gpu`].
#[derive(Clone, Copy)]
pub(crate) struct Pinned {
    start: *mut u8,
    len: usize,
}

// SAFETY: plain memory, used by the thread that has the engine.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(crate) const NONE: Pinned = Pinned { start: null_mut(), len: 0 };

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// The GPU still lives, no transfer runs, and no other reference is in use.
    pub(crate) unsafe fn bytes<'a>(&self) -> &'a mut [u8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: the block is that long.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

/// A captured sequence, ready to be replayed.
pub(crate) struct Graph {
    exec: sys::CUgraphExec,
    context: sys::CUcontext,
    /// Kernels and copies.
    pub(crate) nodes: usize,
}

// SAFETY: driver handles, which any thread may use once it has bound their context; every call here binds it first.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `Gpu::capture`, whose engine drops graphs first. After a sticky error these calls fail too;
        // the context takes what is left with it.
        unsafe {
            let _ = ctx::set_current(self.context);
            let _ = graph::exec_destroy(self.exec);
        }
    }
}

/// Keeps one multiprocessor busy between frames, so that the card's clock does not fall: paced frames are slow on a
/// cold one. The thread ends with it.
pub(crate) struct Warmer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One stretch of work: long enough to cost the processor nothing, short enough to end soon.
const WARM_NANOSECONDS: i64 = 2_000_000;

impl Drop for Warmer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the warmer's thread needs of a [`Gpu`], which outlives it.
struct Warm {
    context: sys::CUcontext,
    spin: sys::CUfunction,
    params: Spin,
}

// SAFETY: driver handles, which any thread may use once it has bound their context; every call here binds it first.
unsafe impl Send for Warm {}

impl Warm {
    fn run(self, stop: &AtomicBool) -> Result<(), DriverError> {
        // SAFETY: the engine joins this thread before it drops the context.
        unsafe { ctx::set_current(self.context) }?;
        let (least, _) = stream::get_priority_range()?;
        let stream = stream::create_with_priority(stream::StreamKind::NonBlocking, least)?;
        // The thread sleeps while it waits.
        let event = event::create(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC)?;
        let mut outcome = Ok(());
        while outcome.is_ok() && !stop.load(Ordering::Relaxed) {
            let mut params = [std::ptr::from_ref(&self.params).cast_mut().cast::<c_void>()];
            // SAFETY: stream, event, function and parameters are alive until the wait is over.
            outcome = unsafe {
                result::launch_kernel(self.spin, (1, 1, 1), (32, 1, 1), 0, stream, &mut params)
                    .and_then(|()| event::record(event, stream))
                    .and_then(|()| event::synchronize(event))
            };
        }
        // SAFETY: made above.
        unsafe {
            let _ = event::destroy(event);
            let _ = stream::destroy(stream);
        }
        outcome
    }
}

/// Two instants on the stream and what lies between.
pub(crate) struct Events {
    events: Vec<sys::CUevent>,
    context: sys::CUcontext,
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: created in `Gpu::events`.
        unsafe {
            let _ = ctx::set_current(self.context);
            for e in &self.events {
                let _ = event::destroy(*e);
            }
        }
    }
}

impl Gpu {
    /// Makes device `ordinal` ready.
    ///
    /// # Errors
    /// No driver, no such device, an architecture before Ampere, no memory.
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        Self::with_kernels(ordinal, MODULE)
    }

    /// As [`Gpu::open`], with other kernels than those compiled in: a cubin, a fat binary or PTX of the same interface.
    ///
    /// # Errors
    /// As [`Gpu::open`]; kernels that cannot be loaded or are not all there.
    pub(crate) fn with_kernels(ordinal: usize, kernels: &[u8]) -> Result<Self> {
        let at = |what: &str, e: DriverError| failed(ordinal, what, e);
        // The driver's library is looked for now and not by the linker, so that the program starts without one.
        // SAFETY: the library is the driver's own; opening it has no other effect.
        #[cfg(not(feature = "candle-cuda"))]
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::machine(format!("cuda:{ordinal}: there is no NVIDIA driver (libcuda.so.1)"))
                .remedy("install the driver and look at nvidia-smi, or use --device cpu"));
        }
        result::init().map_err(|e| at("the driver cannot be started", e))?;
        let count = device::get_count().map_err(|e| at("devices cannot be counted", e))?;
        if ordinal as i64 >= i64::from(count) {
            return Err(Error::machine(format!("cuda:{ordinal}: CUDA sees {count} devices"))
                .remedy("run `polypscope doctor` to see the devices there are, or use --device cpu"));
        }
        let handle = device::get(ordinal as i32).map_err(|e| at("cannot be opened", e))?;
        // SAFETY: the handle was just got.
        let attribute = |a| unsafe { device::get_attribute(handle, a) }.map_err(|e| at("cannot be asked", e));
        use sys::CUdevice_attribute::*;
        let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        if major < 8 {
            return Err(Error::machine(format!(
                "cuda:{ordinal}: the kernels need compute capability 8.0 (Ampere) or later, this card has {major}.x"
            ))
            .remedy("use --device cpu, or --precision f32 for candle's own network"));
        }
        let processors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
        // SAFETY: the handle was just got.
        let context = unsafe { primary_ctx::retain(handle) }.map_err(|e| at("no context", e))?;
        // From here on `Drop` cleans up.
        let mut gpu = Self {
            ordinal,
            device: handle,
            context,
            stream: null_mut(),
            module: null_mut(),
            functions: HashMap::new(),
            memory: Vec::new(),
            pinned: Vec::new(),
            processors,
            ticks: 0,
            can_overlap: false,
            programmatic: false,
            behind_kernel: false,
            pooled: false,
        };
        gpu.bind()?;
        gpu.stream = stream::create(stream::StreamKind::NonBlocking).map_err(|e| at("no stream", e))?;
        // SAFETY: code with its own length in its head, or text that ends in zero.
        gpu.module = unsafe { module::load_data(kernels.as_ptr().cast()) }
            .map_err(|e| at("the kernels cannot be loaded", e))?;
        for kernel in Kernel::all().chain([Kernel::Spin]) {
            let name = CString::new(kernel.name()).map_err(|_| Error::internal("a kernel's name"))?;
            // SAFETY: the module was just loaded.
            let f = unsafe { module::get_function(gpu.module, name) }
                .map_err(|e| at(&format!("kernel {} is missing", kernel.name()), e))?;
            if kernel.shared() > 48 << 10 {
                let limit = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: the function was just got.
                unsafe { function::set_function_attribute(f, limit, kernel.shared() as i32) }
                    .map_err(|e| at(&format!("kernel {} gets no shared memory", kernel.name()), e))?;
            }
            gpu.functions.insert(kernel, f);
        }
        // What the loaded code was compiled from, not what the card could do: older code does not wait by itself.
        gpu.can_overlap = gpu.functions.values().all(|f| {
            let version = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_PTX_VERSION;
            // SAFETY: the functions were just got.
            unsafe { function::get_function_attribute(*f, version) }.is_ok_and(|v| v >= 90)
        });
        Ok(gpu)
    }

    /// Whether a kernel may begin while the one before it still runs.
    pub(crate) fn can_overlap(&self) -> bool {
        self.can_overlap
    }

    /// Launches kernels so, where they can, or no longer. Graphs stay as they were captured.
    pub(crate) fn overlap(&mut self, overlap: bool) {
        self.programmatic = overlap && self.can_overlap;
    }

    /// Memory in the order of the stream, from a pool that keeps what was given back: cheap enough for every map of a
    /// step. Whoever asks gives it back.
    pub(crate) fn allocate_in_order(&mut self, bytes: usize) -> Result<Address> {
        self.bind()?;
        if !self.pooled {
            let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            let mut all = u64::MAX;
            // SAFETY: the handle is ours, and the attribute is 64 bits wide.
            unsafe {
                device::get_default_mem_pool(self.device)
                    .and_then(|pool| mem_pool::set_attribute(pool, attribute, (&raw mut all).cast()))
            }
            .map_err(|e| self.failed("its memory cannot be pooled", e))?;
            self.pooled = true;
        }
        // SAFETY: the context is current, the stream our own.
        unsafe { malloc_async(self.stream, bytes.max(16)) }.map_err(|e| self.failed("no memory", e))
    }

    /// Gives back what [`Gpu::allocate_in_order`] gave; what was launched before still has it.
    pub(crate) fn release_in_order(&mut self, at: Address) -> Result<()> {
        self.bind()?;
        // SAFETY: taken from the pool, and given back once.
        unsafe { free_async(at, self.stream) }.map_err(|e| self.failed("memory cannot be given back", e))
    }

    /// Where everything is put, for libraries that put something between.
    pub(crate) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    pub(crate) fn ordinal(&self) -> usize {
        self.ordinal
    }

    pub(crate) fn name(&self) -> String {
        device::get_name(self.device).unwrap_or_else(|_| "NVIDIA GPU".into())
    }

    /// Makes the context the calling thread's, for libraries that go by it.
    pub(crate) fn bind(&self) -> Result<()> {
        // SAFETY: retained in `open`.
        unsafe { ctx::set_current(self.context) }.map_err(|e| self.failed("its context cannot be used", e))
    }

    fn failed(&self, what: &str, e: DriverError) -> Error {
        failed(self.ordinal, what, e)
    }

    /// Page-locked memory, zeroed.
    pub(crate) fn pinned(&mut self, len: usize) -> Result<Pinned> {
        self.bind()?;
        let len = len.max(1);
        // SAFETY: the context is current.
        let start =
            unsafe { malloc_host(len, 0) }.map_err(|e| self.failed("no page-locked memory", e))?.cast::<u8>();
        // SAFETY: just allocated.
        unsafe { start.write_bytes(0, len) };
        self.pinned.push(start.cast());
        Ok(Pinned { start, len })
    }

    /// Puts a copy behind what was launched before.
    pub(crate) fn send(&mut self, from: Pinned, len: usize, to: Address) -> Result<()> {
        self.bind()?;
        debug_assert!(len <= from.len);
        self.behind_kernel = false;
        // SAFETY: both blocks are that long and live as long as `self`; whoever writes into `from` synchronises first.
        unsafe { memcpy_htod_async(to, std::slice::from_raw_parts(from.start, len), self.stream) }
            .map_err(|e| self.failed("an upload failed", e))
    }

    pub(crate) fn fetch(&mut self, from: Address, to: Pinned, len: usize) -> Result<()> {
        self.bind()?;
        debug_assert!(len <= to.len);
        self.behind_kernel = false;
        // SAFETY: `to` is pinned, at least `len` bytes long, and its owner waits before it reads; `from` is our own
        // allocation.
        unsafe { memcpy_dtoh_async(std::slice::from_raw_parts_mut(to.start, len), from, self.stream) }
            .map_err(|e| self.failed("a download failed", e))
    }

    /// Waits until everything is done.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.bind()?;
        // SAFETY: our own stream.
        unsafe { stream::synchronize(self.stream) }.map_err(|e| self.failed("a frame failed", e))
    }

    /// Captures what `put` launches and copies, instead of running it.
    pub(crate) fn capture(&mut self, put: impl FnOnce(&mut Self) -> Result<()>) -> Result<Graph> {
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.behind_kernel = false;
        // SAFETY: our own stream, not capturing.
        unsafe { stream::begin_capture(self.stream, mode) }.map_err(|e| self.failed("no capture", e))?;
        let done = put(self);
        // SAFETY: begun above; ended whatever happened in between.
        let captured = unsafe { stream::end_capture(self.stream) };
        self.behind_kernel = false;
        done?;
        let captured = captured.map_err(|e| self.failed("a capture failed", e))?;
        let mut nodes = 0;
        // SAFETY: the graph was just captured; a null list asks for the number alone.
        unsafe {
            let counted = sys::cuGraphGetNodes(captured, null_mut(), &mut nodes).result();
            let exec = graph::instantiate(captured, sys::CUgraphInstantiate_flags(0));
            let _ = graph::destroy(captured);
            counted.map_err(|e| self.failed("a graph has no nodes", e))?;
            let exec = exec.map_err(|e| self.failed("a graph cannot be made ready", e))?;
            let graph = Graph { exec, context: self.context, nodes };
            graph::upload(exec, self.stream).map_err(|e| self.failed("a graph cannot be uploaded", e))?;
            Ok(graph)
        }
    }

    /// Starts a graph; [`Gpu::synchronize`] waits for it.
    pub(crate) fn replay(&mut self, graph: &Graph) -> Result<()> {
        self.bind()?;
        self.behind_kernel = false;
        // SAFETY: both are alive.
        unsafe { graph::launch(graph.exec, self.stream) }
            .map_err(|e| self.failed("a graph cannot be started", e))
    }

    pub(crate) fn events(&self, count: usize) -> Result<Events> {
        self.bind()?;
        let mut events = Events { events: Vec::new(), context: self.context };
        for _ in 0..count {
            let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
            events.events.push(event::create(flags).map_err(|e| self.failed("no event", e))?);
        }
        Ok(events)
    }

    pub(crate) fn record(&mut self, events: &Events, which: usize) -> Result<()> {
        self.behind_kernel = false;
        // SAFETY: both are alive.
        unsafe { event::record(events.events[which], self.stream) }.map_err(|e| self.failed("no event", e))
    }

    /// Microseconds between two events; everything has run.
    pub(crate) fn between(&self, events: &Events, from: usize, to: usize) -> Result<f32> {
        // SAFETY: both are alive and recorded.
        unsafe { event::elapsed(events.events[from], events.events[to]) }
            .map(|ms| ms * 1e3)
            .map_err(|e| self.failed("no time between events", e))
    }

    /// Tells a profiler that was started with the program (`ncu --profile-from-start off`) where to look.
    pub(crate) fn show_to_profiler(&self, on: bool) -> Result<()> {
        // SAFETY: without arguments; without a profiler nothing happens.
        unsafe { if on { sys::cuProfilerStart() } else { sys::cuProfilerStop() } }
            .result()
            .map_err(|e| self.failed("the profiler cannot be told", e))
    }

    /// Starts keeping the card warm.
    pub(crate) fn warmer(&mut self) -> Result<Warmer> {
        let out = self.allocate(16)?;
        let spin =
            *self.functions.get(&Kernel::Spin).ok_or_else(|| Error::internal("a kernel is not loaded"))?;
        let warm = Warm { context: self.context, spin, params: Spin { out, nanoseconds: WARM_NANOSECONDS } };
        let stop = Arc::new(AtomicBool::new(false));
        let (told, ordinal) = (stop.clone(), self.ordinal);
        let thread = std::thread::Builder::new()
            .name("warmer".into())
            .spawn(move || {
                if let Err(e) = warm.run(&told) {
                    tracing::warn!("{}", failed(ordinal, "the card is no longer kept warm", e));
                }
            })
            .map_err(|e| Error::machine("no thread to keep the card warm").because(e))?;
        Ok(Warmer { stop, thread: Some(thread) })
    }

    /// MHz at which a multiprocessor ticks now, over a tenth of a millisecond.
    pub(crate) fn ticking_mhz(&mut self) -> Result<f64> {
        let ticks = match self.ticks {
            0 => self.allocate(16)?,
            at => at,
        };
        self.ticks = ticks;
        self.launch(&Launch::new(Kernel::Spin, 1, Spin { out: ticks, nanoseconds: 100_000 }))?;
        let mut counts = [0u64; 2];
        self.behind_kernel = false;
        // SAFETY: the copy has been made when the stream is done.
        unsafe {
            memcpy_dtoh_async(&mut counts, ticks, self.stream)
                .and_then(|()| stream::synchronize(self.stream))
                .map_err(|e| self.failed("a download failed", e))?;
        }
        Ok(counts[0] as f64 / counts[1].max(1) as f64 * 1e3)
    }

    /// Bytes a second a copy within the card's memory moves, reads and writes counted.
    pub(crate) fn copy_rate(&mut self, bytes: usize) -> Result<f64> {
        let (from, to) = (self.allocate(bytes)?, self.allocate(bytes)?);
        let events = self.events(2)?;
        let mut best = f32::INFINITY;
        for _ in 0..8 {
            self.record(&events, 0)?;
            // SAFETY: both are that long.
            unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }
                .map_err(|e| self.failed("a copy failed", e))?;
            self.record(&events, 1)?;
            self.synchronize()?;
            best = best.min(self.between(&events, 0, 1)?);
        }
        for at in [from, to] {
            self.memory.retain(|m| *m != at);
            // SAFETY: allocated above.
            let _ = unsafe { result::free_sync(at) };
        }
        Ok(2.0 * bytes as f64 / f64::from(best) * 1e6)
    }

    /// MHz of the multiprocessors, at most.
    pub(crate) fn clock_mhz(&self) -> Option<f64> {
        let khz = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE;
        // SAFETY: the handle is ours.
        unsafe { device::get_attribute(self.device, khz) }.ok().map(|khz| f64::from(khz) / 1e3)
    }
}

impl Gpu {
    /// Microseconds of each launch, median of several stretches.
    fn time_each(&mut self, launches: &[Launch]) -> Result<Vec<f32>> {
        let events = self.events(2)?;
        let mut times = Vec::with_capacity(launches.len());
        for launch in launches {
            let mut stretches = [0.0; STRETCHES];
            self.launch(launch)?;
            for stretch in &mut stretches {
                self.record(&events, 0)?;
                for _ in 0..STRETCH {
                    self.launch(launch)?;
                }
                self.record(&events, 1)?;
                self.synchronize()?;
                *stretch = self.between(&events, 0, 1)? / STRETCH as f32;
            }
            stretches.sort_by(f32::total_cmp);
            times.push(stretches[STRETCHES / 2]);
        }
        Ok(times)
    }
}

impl Device for Gpu {
    fn allocate(&mut self, bytes: usize) -> Result<Address> {
        self.bind()?;
        // SAFETY: the context is current.
        let at = unsafe { malloc_sync(bytes.max(16)) }.map_err(|e| self.failed("no memory", e))?;
        self.memory.push(at);
        Ok(at)
    }

    fn release(&mut self, at: Address) -> Result<()> {
        self.synchronize()?;
        self.memory.retain(|m| *m != at);
        // SAFETY: allocated by us, and nothing runs.
        unsafe { result::free_sync(at) }.map_err(|e| self.failed("memory cannot be given back", e))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        self.behind_kernel = false;
        // SAFETY: `to` has room; the copy has been made when this returns.
        unsafe {
            memcpy_htod_async(to, bytes, self.stream)
                .and_then(|()| stream::synchronize(self.stream))
                .map_err(|e| self.failed("an upload failed", e))
        }
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.bind()?;
        self.behind_kernel = false;
        // SAFETY: `bytes` is borrowed until the stream has been waited for; `from` is our own allocation.
        unsafe {
            memcpy_dtoh_async(bytes, from, self.stream)
                .and_then(|()| stream::synchronize(self.stream))
                .map_err(|e| self.failed("a download failed", e))
        }
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.bind()?;
        let kernel = launch.kernel;
        let f = *self.functions.get(&kernel).ok_or_else(|| Error::internal("a kernel is not loaded"))?;
        let mut params = [launch.params().cast_mut().cast::<c_void>()];
        let mut overlap = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let waits = kernel != Kernel::Spin;
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: kernel.threads(),
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: kernel.shared(),
            hStream: self.stream,
            attrs: &mut overlap,
            numAttrs: u32::from(self.programmatic && self.behind_kernel && waits),
        };
        self.behind_kernel = waits;
        // SAFETY: the one parameter is laid out as the kernel's; it and the configuration are read before this returns.
        unsafe { sys::cuLaunchKernelEx(&config, f, params.as_mut_ptr(), null_mut()).result() }
            .map_err(|e| self.failed(&format!("kernel {} cannot be launched", kernel.name()), e))
    }

    fn time(&mut self, launches: &[Launch]) -> Result<Option<Vec<f32>>> {
        // In a frame every launch waits for the one before it: a launch is as fast as it is alone, not beside itself.
        let overlap = std::mem::replace(&mut self.programmatic, false);
        let times = self.time_each(launches);
        self.programmatic = overlap;
        times.map(Some)
    }

    fn processors(&self) -> usize {
        self.processors
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: each was made by us and is used by nobody any more. After a sticky error these calls fail too;
        // releasing the context takes what is left with it.
        unsafe {
            let _ = ctx::set_current(self.context);
            if !self.stream.is_null() {
                let _ = stream::synchronize(self.stream);
                let _ = stream::destroy(self.stream);
            }
            for at in &self.memory {
                let _ = result::free_sync(*at);
            }
            for at in &self.pinned {
                let _ = result::free_host(*at);
            }
            if !self.module.is_null() {
                let _ = module::unload(self.module);
            }
            let _ = primary_ctx::release(self.device);
        }
    }
}

/// A driver's refusal as one of our sentences.
fn failed(ordinal: usize, what: &str, e: DriverError) -> Error {
    use sys::cudaError_enum::*;
    let name =
        e.error_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|_| format!("{:?}", e.0));
    let text = format!("cuda:{ordinal}: {what} (CUDA says {name})");
    match e.0 {
        CUDA_ERROR_OUT_OF_MEMORY => Error::machine(format!("{text}: out of memory"))
            .remedy("free the card's memory, or choose a smaller input or batch"),
        CUDA_ERROR_NO_DEVICE | CUDA_ERROR_INVALID_DEVICE | CUDA_ERROR_STUB_LIBRARY => {
            Error::machine(text).remedy("use --device cpu, or check the driver with nvidia-smi")
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
        | CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            Error::machine(text).remedy("install a driver for CUDA 13.0 or later")
        }
        _ => Error::inference(text).remedy("check the card with nvidia-smi"),
    }
    .caused_by(codes::fault(e.0 as u32))
    .because(e)
}

/// The cause behind an error of candle's CUDA side, by the driver's number in it.
#[cfg(feature = "candle-cuda")]
pub(crate) fn fault_of_candle(e: &candle_core::Error) -> Option<Fault> {
    use candle_core::Error as Candle;
    use candle_core::cuda_backend::CudaError;
    match e {
        Candle::Cuda(inner) => match inner.downcast_ref::<CudaError>() {
            Some(CudaError::Cuda(driver) | CudaError::Load { cuda: driver, .. }) => {
                codes::fault(driver.0 as u32)
            }
            _ => None,
        },
        Candle::Context { inner, .. }
        | Candle::WithPath { inner, .. }
        | Candle::WithBacktrace { inner, .. } => fault_of_candle(inner),
        _ => None,
    }
}
