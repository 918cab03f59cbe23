//! Arrays on a device, and their transfer.
use burn::tensor::{Bytes, DType, Shape, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::bytes::AllocationProperty;
use cubecl::client::ComputeClient;
use cubecl::future::block_on;
use cubecl::prelude::*;
use cubecl::server::{Handle, ServerError};
use cubecl::stream_id::StreamId;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

/// Parts of one allocation begin at multiples of this many numbers, because every device can bind a part there.
const ALIGNMENT: usize = 128;
/// Units of a cube if each computes one number of the result.
pub(crate) const UNITS: u32 = 128;
/// Cubes along one axis of a launch: a number that every device allows.
const AXIS: usize = 32_768;

/// Numbers from which an upload counts as large: a megabyte of features that do not stay on the device.
const LARGE: usize = 1 << 18;
/// The stream of large uploads.
const COPIES: StreamId = StreamId { value: u64::MAX };

/// By the line of this crate that launched them.
static LAUNCHES: Mutex<BTreeMap<(&str, u32), u64>> = Mutex::new(BTreeMap::new());

/// Kernels launched by this crate's operations since the program began; a matrix product counts as one. The difference
/// over a step is the step's number of launches.
pub fn launches() -> u64 {
    LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
}

/// [`launches`] by their line in this crate's source, `file:line`.
pub fn launches_by_source_line() -> BTreeMap<String, u64> {
    let all = LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let name = |file: &str| file.rsplit(['/', '\\']).next().unwrap_or(file).to_string();
    all.iter().map(|((file, line), &count)| (format!("{}:{line}", name(file)), count)).collect()
}

/// Counts a launch that does not go through [`cubes`].
#[track_caller]
pub(crate) fn count_launch() {
    let place = Location::caller();
    *LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner).entry((place.file(), place.line())).or_default() += 1;
}

/// A launch of at least that many cubes: a kernel checks its index.
#[track_caller]
pub(crate) fn cubes(count: usize) -> CubeCount {
    count_launch();
    let along = count.clamp(1, AXIS);
    CubeCount::Static(along as u32, count.div_ceil(along) as u32, 1)
}

/// A launch with at least that many units, one per number.
#[track_caller]
pub(crate) fn units(count: usize) -> CubeCount {
    cubes(count.div_ceil(UNITS as usize))
}

/// Consecutive numbers of 32 bits on a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceBuffer<R: CubeRuntime> {
    handle: Handle,
    len: usize,
    runtime: PhantomData<R>,
}

impl<R: CubeRuntime> DeviceBuffer<R> {
    /// As an argument of a kernel, which may write it only if no one else holds it.
    pub(crate) fn arg(&self) -> ArrayArg<R> {
        // SAFETY: `len` numbers of 4 bytes lie in the handle; of an empty buffer no kernel reads the one that is there.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), self.len.max(1)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `len` numbers from `start` on, which is a multiple of [`padded`] lengths.
    pub(crate) fn part(&self, start: usize, len: usize) -> Self {
        debug_assert!(start.is_multiple_of(ALIGNMENT) && start + len <= self.len);
        // a part of length 0 cannot be bound
        let after = self.handle.size_in_used() as usize / 4 - start - len.max(1);
        let handle = self.handle.clone().offset_start(4 * start as u64).offset_end(4 * after as u64);
        Self { handle, len, runtime: PhantomData }
    }
}

/// Numbers that a part of that length occupies.
pub(crate) fn padded(len: usize) -> usize {
    len.max(1).next_multiple_of(ALIGNMENT)
}

/// Assigns offsets to the parts of one upload, one after the other.
#[derive(Default)]
pub(crate) struct OffsetAllocator {
    end: usize,
}

impl OffsetAllocator {
    /// The offset of the next part of `len` numbers.
    pub(crate) fn next(&mut self, len: usize) -> usize {
        let start = self.end;
        self.end += padded(len);
        start
    }
}

/// Arrays that are uploaded to a device together.
#[derive(Default)]
pub(crate) struct UploadBuffer {
    numbers: Vec<u32>,
}

impl UploadBuffer {
    pub(crate) fn floats(&mut self, numbers: impl IntoIterator<Item = f32>) {
        self.integers(numbers.into_iter().map(f32::to_bits));
    }

    pub(crate) fn integers(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let start = self.numbers.len();
        self.numbers.extend(numbers);
        self.numbers.resize(start + padded(self.numbers.len() - start), 0);
    }
}

#[cube(launch)]
fn copy_kernel(from: &Array<u32>, to: &mut Array<u32>, start: u32) {
    if ABSOLUTE_POS < to.len() {
        to[ABSOLUTE_POS] = from[start as usize + ABSOLUTE_POS];
    }
}

/// A pending copy of numbers from a device to the host.
pub struct PendingRead<'a> {
    bytes: Pin<Box<dyn Future<Output = Result<Vec<Bytes>, ServerError>> + Send + 'a>>,
    len: usize,
}

impl PendingRead<'_> {
    /// The numbers. Waits until the device has reached this copy.
    pub fn wait(self) -> Vec<f32> {
        let bytes = block_on(self.bytes).expect("a device that computes can be read");
        f32::from_bytes(&bytes[0])[..self.len].to_vec()
    }
}

/// A device and its queue.
#[derive(Clone)]
pub(crate) struct Device<R: CubeRuntime> {
    pub(crate) client: ComputeClient<R>,
    pub(crate) device: R::Device,
}

impl<R: CubeRuntime> fmt::Debug for Device<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.device)
    }
}

impl<R: CubeRuntime> Device<R> {
    pub(crate) fn new(device: &R::Device) -> Self {
        Self { client: R::client(device), device: device.clone() }
    }

    /// The device of `tensor`.
    pub(crate) fn of(tensor: &CubeTensor<R>) -> Self {
        Self { client: tensor.client.clone(), device: tensor.device.clone() }
    }

    /// A buffer with arbitrary numbers.
    pub(crate) fn empty(&self, len: usize) -> DeviceBuffer<R> {
        let len = padded(len);
        DeviceBuffer { handle: self.client.empty(4 * len), len, runtime: PhantomData }
    }

    /// The same number `len` times.
    pub(crate) fn filled(&self, len: usize, number: u32) -> DeviceBuffer<R> {
        let mut upload = UploadBuffer::default();
        upload.integers(std::iter::repeat_n(number, len));
        self.send(upload).part(0, len)
    }

    /// Copies the numbers of `from` from `start` on over those of `to`.
    pub(crate) fn copy_to(&self, from: &DeviceBuffer<R>, start: usize, to: &DeviceBuffer<R>) {
        copy_kernel::launch::<R>(
            &self.client,
            units(to.len()),
            CubeDim::new_1d(UNITS),
            from.arg(),
            to.arg(),
            start as u32,
        );
    }

    /// Copies numbers to the host. Waits for the device.
    pub(crate) fn integers(&self, buffer: &DeviceBuffer<R>) -> Vec<u32> {
        let bytes = self.client.read_one_unchecked(buffer.handle.clone());
        u32::from_bytes(&bytes)[..buffer.len].to_vec()
    }

    /// As [`integers`](Device::integers), of floats.
    pub(crate) fn floats(&self, buffer: &DeviceBuffer<R>) -> Vec<f32> {
        self.integers(buffer).into_iter().map(f32::from_bits).collect()
    }

    /// Requests the first `len` numbers. The copy follows all work queued so far, and the host may continue meanwhile.
    pub(crate) fn read_later(&self, buffer: &DeviceBuffer<R>) -> PendingRead<'_> {
        PendingRead { bytes: Box::pin(self.client.read_async(vec![buffer.handle.clone()])), len: buffer.len }
    }

    /// Uploads the numbers in one transfer; a large one goes [overlapped](Device::send_overlapped).
    pub(crate) fn send(&self, upload: UploadBuffer) -> DeviceBuffer<R> {
        let len = upload.numbers.len();
        if len >= LARGE {
            return self.send_overlapped(upload);
        }
        DeviceBuffer { handle: self.client.create(Bytes::from_elems(upload.numbers)), len, runtime: PhantomData }
    }

    /// Uploads the numbers in one transfer. If the device's driver has pinned memory, it goes through that and on a
    /// stream of its own, so that it overlaps with kernels launched earlier. Kernels launched later wait for it on the
    /// device.
    pub(crate) fn send_overlapped(&self, upload: UploadBuffer) -> DeviceBuffer<R> {
        let len = upload.numbers.len();
        let bytes = self.staged(upload);
        let handle = match bytes.property() {
            AllocationProperty::Pinned => COPIES.executes(|| self.client.create(bytes)),
            _ => self.client.create(bytes),
        };
        DeviceBuffer { handle, len, runtime: PhantomData }
    }

    /// Whether the device's driver has pinned memory.
    pub(crate) fn uses_pinned_memory(&self) -> bool {
        let mut upload = UploadBuffer::default();
        upload.integers([0]);
        self.staged(upload).property() == AllocationProperty::Pinned
    }

    /// In pinned memory, if available.
    fn staged(&self, upload: UploadBuffer) -> Bytes {
        let mut bytes = Bytes::from_elems(upload.numbers);
        self.client.staging(std::iter::once(&mut bytes), false);
        bytes
    }

    /// The numbers of `tensor` in row-major order, copied only where they lie otherwise.
    pub(crate) fn buffer(&self, tensor: &CubeTensor<R>) -> DeviceBuffer<R> {
        assert_eq!(tensor.dtype, DType::F32, "a fused operation computes in f32");
        let len = tensor.shape().num_elements();
        if len == 0 {
            return self.empty(0).part(0, 0);
        }
        DeviceBuffer { handle: into_contiguous(tensor.clone()).handle, len, runtime: PhantomData }
    }

    /// The first numbers of `buffer` as a tensor.
    pub(crate) fn tensor(&self, buffer: &DeviceBuffer<R>, shape: impl Into<Shape>) -> CubeTensor<R> {
        let shape = shape.into();
        let buffer = buffer.part(0, shape.num_elements());
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape, buffer.handle, DType::F32)
    }

    /// The first numbers of `buffer` as `[blocks, rows, columns]`.
    pub(crate) fn blocks(&self, buffer: &DeviceBuffer<R>, [blocks, rows, columns]: [usize; 3]) -> CubeTensor<R> {
        self.tensor(buffer, [blocks, rows, columns])
    }

    /// The first `columns` columns of rows that lie `stride` apart, where they lie.
    pub(crate) fn columns(
        &self,
        buffer: &DeviceBuffer<R>,
        [rows, columns]: [usize; 2],
        stride: usize,
    ) -> CubeTensor<R> {
        let mut tensor = self.tensor(buffer, [rows, stride]);
        *tensor.meta.shape_mut() = Shape::from([rows, columns]);
        tensor
    }

    /// A matrix with arbitrary numbers, and its buffer.
    pub(crate) fn matrix(&self, rows: usize, columns: usize) -> (CubeTensor<R>, DeviceBuffer<R>) {
        let buffer = self.empty(rows * columns);
        (self.tensor(&buffer, [rows, columns]), buffer.part(0, rows * columns))
    }
}

/// `tensor` with its last two axes exchanged. Moves no data.
pub(crate) fn transposed<R: CubeRuntime>(tensor: &CubeTensor<R>) -> CubeTensor<R> {
    let (mut turned, axes) = (tensor.clone(), tensor.meta.rank());
    turned.meta.swap(axes - 2, axes - 1);
    turned
}

/// Zeros in the shape of `tensor`.
pub(crate) fn zeros<R: CubeRuntime>(tensor: &CubeTensor<R>) -> CubeTensor<R> {
    let device = Device::of(tensor);
    match tensor.shape() {
        shape if shape.num_elements() == 0 => device.tensor(&device.empty(0), shape),
        shape => zeros_client(device.client, device.device, shape, tensor.dtype),
    }
}
