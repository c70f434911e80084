//! A processor that plays the device, for tests: the kernels' own source, compiled by the host's C++ compiler.
//!
//! In: launches. Out: what the kernels would have written. See `kernels/emulator.h` for what it checks besides. Every
//! allocation begins as NaN and ends with bytes that nobody may overwrite.

use std::ffi::{CString, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::launch::{Device, Kernel, Launch};
use super::params::{Address, SIZES};
use crate::{Error, Result};

const GUARD: usize = 256;
const GUARD_BYTE: u8 = 0xA5;

type Entry = unsafe extern "C" fn(*const c_void, c_int, c_int, c_int) -> c_int;

/// The library, compiled once a process; `None` where there is no compiler.
fn library() -> Option<usize> {
    static LIBRARY: OnceLock<Option<usize>> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for the emulated kernels");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/cuda/kernels/emulated.cpp");
        let target = folder.path().join("kernels.so");
        let mut compiler = Command::new("g++");
        // longjmp between fibers is what fortification forbids.
        compiler.args(["-std=c++17", "-O2", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-Wall", "-Werror"]);
        compiler.args(["-Wno-unknown-pragmas", "-Wno-clobbered"]);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
            compiler.args(["-mavx2", "-mf16c"]);
        }
        let done = match compiler.arg(&source).arg("-o").arg(&target).output() {
            Ok(done) => done,
            Err(_) => return None,
        };
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let path = CString::new(target.to_str().expect("a plain path")).expect("a plain path");
        // SAFETY: our own library; it has no initialisers.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "the emulated kernels load");
        Some(handle as usize)
    })
}

fn symbol(library: usize, name: &str) -> *mut c_void {
    let name = CString::new(name).expect("a plain name");
    // SAFETY: the handle is open for ever.
    let found = unsafe { libc::dlsym(library as *mut c_void, name.as_ptr()) };
    assert!(!found.is_null(), "{name:?} is among the emulated kernels");
    found
}

pub(crate) struct Emulated {
    library: usize,
    memory: Vec<(Box<[u64]>, usize)>,
}

impl Emulated {
    /// `None`, and a word on standard error, without a C++ compiler.
    pub(crate) fn new() -> Option<Self> {
        let Some(library) = library() else {
            crate::skipped::skip("gxx", "there is no g++ to compile the emulated CUDA kernels with");
            return None;
        };
        // SAFETY: that is its type.
        let size: extern "C" fn(c_int) -> c_int =
            unsafe { std::mem::transmute(symbol(library, "params_size")) };
        for (i, want) in SIZES.iter().enumerate() {
            assert_eq!(size(i as c_int) as usize, *want, "parameters {i} are laid out alike");
        }
        for kernel in Kernel::all() {
            symbol(library, kernel.name());
        }
        Some(Self { library, memory: Vec::new() })
    }

    /// Runs blocks and warps from the last to the first.
    pub(crate) fn backwards(&mut self, backwards: bool) {
        // SAFETY: that is its type.
        let order: extern "C" fn(c_int) =
            unsafe { std::mem::transmute(symbol(self.library, "emulator_order")) };
        order(backwards.into());
    }

    /// Whether nobody wrote behind an allocation.
    pub(crate) fn check_guards(&self) {
        for (words, bytes) in &self.memory {
            // SAFETY: the block is that long.
            let all = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), words.len() * 8) };
            assert!(all[*bytes..].iter().all(|b| *b == GUARD_BYTE), "a kernel wrote past {bytes} bytes");
        }
    }
}

impl Device for Emulated {
    fn allocate(&mut self, bytes: usize) -> Result<Address> {
        let padded = bytes.next_multiple_of(16) + GUARD + 16;
        let mut words = vec![u64::MAX; padded / 8].into_boxed_slice();
        // Device memory is aligned; here to 16 bytes.
        let skip = words.as_ptr().align_offset(16);
        let start = words.as_mut_ptr().wrapping_add(skip).cast::<u8>();
        let used = skip * 8 + bytes;
        // SAFETY: inside the block.
        unsafe {
            std::ptr::write_bytes(
                words.as_mut_ptr().cast::<u8>().add(used),
                GUARD_BYTE,
                words.len() * 8 - used,
            )
        };
        self.memory.push((words, used));
        Ok(start as Address)
    }

    fn release(&mut self, _: Address) -> Result<()> {
        // Kept, so that its end is looked at too.
        Ok(())
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<()> {
        // SAFETY: addresses are our own allocations.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: `from` lies in an allocation of ours that is as long as what its user asked for.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        let kernel = launch.kernel;
        // SAFETY: that is the type of every kernel here; parameters were checked to be laid out alike.
        let code = unsafe {
            let entry: Entry = std::mem::transmute(symbol(self.library, kernel.name()));
            let params = launch.params().cast::<c_void>();
            entry(params, launch.grid as c_int, kernel.threads() as c_int, kernel.shared() as c_int)
        };
        if code == 0 {
            Ok(())
        } else {
            Err(Error::internal(format!("{}: emulated with code {code}", kernel.name())))
        }
    }

    fn time(&mut self, _: &[Launch]) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    fn processors(&self) -> usize {
        132
    }
}
