//! NVIDIA's NCCL: exchanges between GPUs. libtorch's CUDA half brings the library, which is loaded at run
//! time, by its C interface.

use super::collectives::Collectives;
use crate::error::{Error, Result};
use crate::native::check;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::transmute_copy;
use std::ptr::null_mut;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tch::{Kind, TchError, Tensor};

/// The library's name.
pub(super) const LIBRARY: &str = "libnccl.so.2";

type Handle = *mut c_void;
type Status = i32;
const SUM: i32 = 0;
const IN_PROGRESS: Status = 7;
/// An exchange takes milliseconds; looking this often costs none of them.
const POLL: Duration = Duration::from_micros(50);

/// What rank 0 draws and gives to all others, so that they find each other.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Id([u8; 128]);

// The functions of nccl.h that are used, under their names.
struct Functions {
    get_unique_id: extern "C" fn(*mut Id) -> Status,
    comm_init_rank: extern "C" fn(*mut Handle, i32, Id, i32) -> Status,
    all_reduce: extern "C" fn(Handle, Handle, usize, i32, i32, Handle, Handle) -> Status,
    broadcast: extern "C" fn(Handle, Handle, usize, i32, i32, Handle, Handle) -> Status,
    all_gather: extern "C" fn(Handle, Handle, usize, i32, Handle, Handle) -> Status,
    comm_get_async_error: extern "C" fn(Handle, *mut Status) -> Status,
    comm_abort: extern "C" fn(Handle) -> Status,
    get_error_string: extern "C" fn(Status) -> *const c_char,
}

unsafe extern "C" {
    fn camtrast_stream(tensor: *const c_void, stream: *mut Handle, done: *mut i32) -> i32;
}

impl Functions {
    fn load(library: &str) -> Result<Self> {
        let missing = || {
            // SAFETY: the loader's message stays valid until its next call in this thread.
            let reason = unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy();
            Error::settings(
                format!("NCCL cannot be loaded ({reason})"),
                "run `make setup CUDA=1`, or use --device cpu",
            )
        };
        let name = CString::new(library).expect("a file name has no zero byte");
        // SAFETY: the library is one that libtorch itself loads, and is never unloaded.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            return Err(missing());
        }
        let find = |name: &CStr| {
            // SAFETY: an open library.
            let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if found.is_null() {
                Err(missing())
            } else {
                Ok(found)
            }
        };
        // SAFETY: types as in nccl.h, which has kept them since NCCL 2.0.
        unsafe {
            Ok(Functions {
                get_unique_id: transmute_copy(&find(c"ncclGetUniqueId")?),
                comm_init_rank: transmute_copy(&find(c"ncclCommInitRank")?),
                all_reduce: transmute_copy(&find(c"ncclAllReduce")?),
                broadcast: transmute_copy(&find(c"ncclBroadcast")?),
                all_gather: transmute_copy(&find(c"ncclAllGather")?),
                comm_get_async_error: transmute_copy(&find(c"ncclCommGetAsyncError")?),
                comm_abort: transmute_copy(&find(c"ncclCommAbort")?),
                get_error_string: transmute_copy(&find(c"ncclGetErrorString")?),
            })
        }
    }

    fn check(&self, status: Status) -> Result<()> {
        if status == 0 || status == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: NCCL's messages are constants.
        let text = unsafe { CStr::from_ptr((self.get_error_string)(status)) };
        Err(failed(&text.to_string_lossy()))
    }
}

fn failed(text: &str) -> Error {
    TchError::Torch(format!("NCCL: {text}")).into()
}

/// A communicator of NCCL. After an exchange that failed it can no longer be used.
pub(super) struct Nccl {
    functions: Functions,
    communicator: Handle,
    timeout: Duration,
    aborted: Cell<bool>,
}

// SAFETY: used behind a lock.
unsafe impl Send for Nccl {}

impl Nccl {
    /// Joins the others on the GPU of `like`. `share` gives rank 0's text to all.
    pub(super) fn open(
        library: &str,
        (rank, world): (u64, u64),
        like: &Tensor,
        timeout: Duration,
        share: impl FnOnce(Option<String>) -> Result<String>,
    ) -> Result<Self> {
        let functions = Functions::load(library)?;
        stream_of(like)?; // makes the GPU the thread's own
        let own = (rank == 0).then(|| {
            let mut id = Id([0; 128]);
            functions.check((functions.get_unique_id)(&mut id))?;
            Ok::<_, Error>(id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        });
        let text = share(own.transpose()?)?;
        let mut id = Id([0; 128]);
        for (byte, digits) in id.0.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).map_err(|_| failed("rank 0 sent no identity"))?;
        }
        let mut communicator = null_mut();
        functions.check((functions.comm_init_rank)(
            &mut communicator,
            world as i32,
            id,
            rank as i32,
        ))?;
        let aborted = Cell::new(false);
        Ok(Nccl {
            functions,
            communicator,
            timeout,
            aborted,
        })
    }

    // Runs `work` on a dense form of the tensor, with its address and the stream, and waits for its end.
    fn run(&self, tensor: &Tensor, work: impl FnOnce(Handle, Handle) -> Status) -> Result<()> {
        let dense = tensor.detach().contiguous();
        let (stream, _) = stream_of(&dense)?;
        self.functions.check(work(dense.data_ptr(), stream))?;
        self.wait(&dense)?;
        if dense.data_ptr() != tensor.data_ptr() {
            tch::no_grad(|| tensor.shallow_clone().f_copy_(&dense))?;
        }
        Ok(())
    }

    fn wait(&self, tensor: &Tensor) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut status = 0;
            let asked = (self.functions.comm_get_async_error)(self.communicator, &mut status);
            let failure = (self
                .functions
                .check(asked)
                .and_then(|()| self.functions.check(status)))
            .err();
            let late = (begun.elapsed() > self.timeout).then(|| failed("an exchange timed out"));
            if let Some(error) = failure.or(late) {
                self.aborted.set(true);
                (self.functions.comm_abort)(self.communicator);
                return Err(error);
            }
            if stream_of(tensor)?.1 {
                return Ok(());
            }
            sleep(POLL);
        }
    }
}

/// The stream of a tensor's GPU, and whether all work in it is done.
fn stream_of(tensor: &Tensor) -> Result<(Handle, bool)> {
    let (mut stream, mut done) = (null_mut(), 0);
    // SAFETY: a live tensor.
    check(unsafe { camtrast_stream(tensor.as_ptr().cast(), &mut stream, &mut done) })?;
    Ok((stream, done != 0))
}

// ncclDataType_t.
fn type_of(tensor: &Tensor) -> Result<i32> {
    match tensor.kind() {
        Kind::Int8 => Ok(0),
        Kind::Uint8 => Ok(1),
        Kind::Int => Ok(2),
        Kind::Int64 => Ok(4),
        Kind::Half => Ok(6),
        Kind::Float => Ok(7),
        Kind::Double => Ok(8),
        Kind::BFloat16 => Ok(9),
        kind => Err(failed(&format!("tensors of type {kind:?} cannot be exchanged"))),
    }
}

impl Collectives for Nccl {
    fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        let (count, kind) = (tensor.numel(), type_of(tensor)?);
        self.run(tensor, |data, stream| {
            (self.functions.all_reduce)(data, data, count, kind, SUM, self.communicator, stream)
        })
    }

    fn broadcast(&self, tensor: &Tensor) -> Result<()> {
        let (count, kind) = (tensor.numel(), type_of(tensor)?);
        self.run(tensor, |data, stream| {
            (self.functions.broadcast)(data, data, count, kind, 0, self.communicator, stream)
        })
    }

    fn all_gather(&self, input: &Tensor, output: &Tensor) -> Result<()> {
        let input = input.detach().contiguous();
        let (count, kind) = (input.numel(), type_of(&input)?);
        self.run(output, |data, stream| {
            (self.functions.all_gather)(input.data_ptr(), data, count, kind, self.communicator, stream)
        })
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        if !self.aborted.get() {
            (self.functions.comm_abort)(self.communicator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tch::Device;
    use tempfile::TempDir;

    // Two processes of which the other always has the same tensors; exchanges of 13 numbers fail.
    const STAND_IN: &str = r#"
        #include <string.h>
        #include <stddef.h>
        typedef struct { char bytes[128]; } Id;
        int aborts = 0, ranks = 0;
        static int state = 0;
        static size_t width(int type) { return type == 4 || type == 8 ? 8 : type == 1 ? 1 : 4; }
        int ncclGetUniqueId(Id *id) {
            for (int i = 0; i < 128; ++i) id->bytes[i] = (char)(255 - i);
            return 0;
        }
        int ncclCommInitRank(void **comm, int n, Id id, int rank) {
            for (int i = 0; i < 128; ++i) if (id.bytes[i] != (char)(255 - i)) return 4;
            ranks = n; *comm = &ranks; return rank < n ? 0 : 4;
        }
        int ncclAllReduce(const void *in, void *out, size_t n, int type, int op, void *comm, void *stream) {
            if (op != 0 || comm != &ranks) return 4;
            state = n == 13 ? 6 : 0;
            for (size_t i = 0; i < n; ++i) {
                if (type == 7) ((float *)out)[i] = ranks * ((const float *)in)[i];
                else if (type == 8) ((double *)out)[i] = ranks * ((const double *)in)[i];
                else return 4;
            }
            return 0;
        }
        int ncclBroadcast(const void *in, void *out, size_t n, int type, int root, void *comm, void *stream) {
            memset(out, 1, n * width(type)); return root == 0 && comm == &ranks ? 0 : 4;
        }
        int ncclAllGather(const void *in, void *out, size_t n, int type, void *comm, void *stream) {
            for (int r = 0; r < ranks; ++r) memcpy((char *)out + r * n * width(type), in, n * width(type));
            return 0;
        }
        int ncclCommGetAsyncError(void *comm, int *error) { *error = state; return 0; }
        int ncclCommAbort(void *comm) { ++aborts; return 0; }
        const char *ncclGetErrorString(int result) { return result == 6 ? "remote process exited" : "wrong"; }
    "#;

    fn stand_in(folder: &TempDir) -> String {
        let (source, library) = (folder.path().join("nccl.c"), folder.path().join("libnccl.so"));
        std::fs::write(&source, STAND_IN).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status();
        assert!(built.unwrap().success());
        library.display().to_string()
    }

    fn open(library: &str, rank: u64, id: &str) -> Result<Nccl> {
        let like = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        Nccl::open(library, (rank, 2), &like, Duration::from_secs(5), |own| {
            Ok(own.unwrap_or_else(|| id.to_owned()))
        })
    }

    #[test]
    fn exchanges_call_the_library_as_its_header_says() {
        let folder = TempDir::new().unwrap();
        let library = stand_in(&folder);
        let nccl = open(&library, 0, "").unwrap();
        let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]);
        // Not contiguous: the result goes back into the tensor itself.
        nccl.all_reduce(&x.tr()).unwrap();
        assert_eq!(
            Vec::<f32>::try_from(x.reshape([-1])).unwrap(),
            [2.0, 4.0, 6.0, 8.0]
        );
        nccl.all_reduce(&Tensor::from_slice(&[0.5f64])).unwrap();
        let bytes = Tensor::from_slice(&[9u8, 9]);
        nccl.broadcast(&bytes).unwrap();
        assert_eq!(Vec::<u8>::try_from(bytes).unwrap(), [1, 1]);
        let (own, all) = (
            Tensor::from_slice(&[5i64, 6]),
            Tensor::zeros([2, 2], (Kind::Int64, Device::Cpu)),
        );
        nccl.all_gather(&own, &all).unwrap();
        assert_eq!(Vec::<i64>::try_from(all.reshape([-1])).unwrap(), [5, 6, 5, 6]);
        // Rank 1 begins with the identity that rank 0 drew.
        let id: String = (0..128).map(|i| format!("{:02x}", 255 - i)).collect();
        assert!(open(&library, 1, &id).is_ok());
        assert!(open(&library, 1, &id.replace("ff", "00")).is_err());
        assert!(open(&library, 1, "no identity").is_err());
    }

    #[test]
    fn failures_abort_and_say_why() {
        let folder = TempDir::new().unwrap();
        let nccl = open(&stand_in(&folder), 0, "").unwrap();
        let lost = nccl.all_reduce(&Tensor::zeros([13], (Kind::Float, Device::Cpu)));
        let lost = lost.unwrap_err().to_string();
        assert!(lost.ends_with("NCCL: remote process exited"), "{lost}");
        assert!(nccl.aborted.get());
        let bools = open(&stand_in(&folder), 0, "")
            .unwrap()
            .all_reduce(&Tensor::from_slice(&[true]));
        assert!(
            bools
                .unwrap_err()
                .to_string()
                .contains("Bool cannot be exchanged")
        );
        let missing = open("libnothing.so.2", 0, "").map(drop).unwrap_err().to_string();
        assert!(
            missing.contains("NCCL cannot be loaded") && missing.contains("CUDA=1"),
            "{missing}"
        );
    }
}
