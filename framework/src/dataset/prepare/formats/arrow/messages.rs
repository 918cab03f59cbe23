//! The batches of a file or stream of Arrow IPC, one at a time.
//!
//! Each length that a file promises is compared with what is there before memory is taken for it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, StreamDecoder};
use arrow_ipc::{Block, MessageHeader};
use arrow_schema::SchemaRef;

use crate::dataset::prepare::common::columns::{Column, Role};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::RawEvents;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::formats::arrow::values::{Kind, Values, kind_of};
use crate::dataset::prepare::formats::companions::pass_over_features;
use crate::dataset::prepare::formats::csv::named;
use crate::dataset::prepare::formats::parquet::single_float_time;

const MAGIC: &[u8] = b"ARROW1";
/// Bytes at the end of a file: the length of the index, and the mark.
const END: (u64, u64) = (4, 6);
/// Bytes that one packed buffer may become, and how many times its own size.
const MOST_UNPACKED: (u64, u64) = (4 << 30, 1 << 14);

/// Reads a file into `events`, if there are some of files before it.
pub(super) fn read_file(
    path: &Path,
    first: &Path,
    options: &PrepareOptions,
    events: Option<RawEvents>,
    notices: &mut Vec<String>,
    progress: Progress<'_>,
) -> Result<RawEvents, PrepareError> {
    let mut messages = Messages::open(path)?;
    let schema = messages.schema()?;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut columns = named(&names, options).map_err(|fact| PrepareError::file(path, fact))?;
    if first.with_file_name("edge_feat.npy").exists() {
        let notice = pass_over_features(&mut columns);
        if events.is_none() {
            notices.extend(notice);
        }
    }
    let mut events = match events {
        None => RawEvents::new(columns.clone(), options),
        Some(events) if events.columns() == columns => events,
        Some(_) => return Err(PrepareError::file(path, "the columns are not those of the first file, in one order")),
    };
    let mut kinds = Vec::new();
    for (column, field) in columns.iter().zip(schema.fields()) {
        let kind = kind_of(column, field.data_type(), &mut events, notices);
        kinds.push(kind.map_err(|fact| PrepareError::file(path, fact))?);
    }
    events.times.check_units().map_err(|fact| PrepareError::file(path, fact))?;
    let mut row = 0;
    while let Some(batch) = messages.next()? {
        read_batch(path, &batch, &columns, &kinds, &mut row, &mut events)?;
        progress(messages.read.min(messages.total), messages.total);
    }
    Ok(events)
}

fn read_batch(
    path: &Path,
    batch: &RecordBatch,
    columns: &[Column],
    kinds: &[Kind],
    row: &mut u64,
    events: &mut RawEvents,
) -> Result<(), PrepareError> {
    let mut values = Vec::new();
    for ((array, column), kind) in batch.columns().iter().zip(columns).zip(kinds) {
        values.push(match kind {
            Kind::Ignored => Values::absent(),
            _ if array.len() != batch.num_rows() => {
                return Err(PrepareError::file(path, format!("column `{}` is shorter than its batch", column.name)));
            }
            _ => Values::of(array.as_ref())
                .map_err(|fact| PrepareError::file(path, format!("column `{}` {fact}", column.name)))?,
        });
    }
    let single = |&at: &usize| kinds[at] == Kind::Single && matches!(columns[at].role, Role::Time | Role::End);
    let single: Vec<usize> = (0..columns.len()).filter(single).collect();
    for at in 0..batch.num_rows() {
        for &column in &single {
            single_float_time(values[column].cell(at), &columns[column].name)
                .map_err(|fact| PrepareError::row(path, *row, fact))?;
        }
        events.push(path, *row, |column| values[column].cell(at))?;
        *row += 1;
    }
    Ok(())
}

/// The batches of a file or stream, in order.
struct Messages<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Bytes up to where the file is read, and all.
    read: u64,
    total: u64,
    schema: Option<SchemaRef>,
    form: Form,
}

enum Form {
    /// A file has an index at its end, and says with it where the batches are.
    File(FileDecoder, VecDeque<Block>),
    Stream(StreamDecoder, VecDeque<RecordBatch>),
}

impl<'a> Messages<'a> {
    fn open(path: &'a Path) -> Result<Self, PrepareError> {
        let io = |error| PrepareError::io(path, error);
        let file = File::open(path).map_err(io)?;
        let total = file.metadata().map_err(io)?.len();
        let file = BufReader::with_capacity(1 << 18, file);
        let form = Form::Stream(StreamDecoder::new(), VecDeque::new());
        let mut messages = Self { path, file, read: 0, total, schema: None, form };
        let start = messages.bytes(8)?;
        if start.starts_with(MAGIC) {
            messages.read_index()?;
        } else {
            // A stream has no mark of its own: what was read begins its first message.
            messages.seek(0)?;
            messages.message()?;
        }
        Ok(messages)
    }

    fn damaged(&self, fact: impl fmt::Display) -> PrepareError {
        PrepareError::file(self.path, format!("the file is damaged at byte {}: {fact}", self.read))
    }

    fn seek(&mut self, to: u64) -> Result<(), PrepareError> {
        self.read = to;
        self.file.seek(SeekFrom::Start(to)).map(drop).map_err(|error| PrepareError::io(self.path, error))
    }

    /// The next bytes, whose number the file promises: as many, or an error.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, PrepareError> {
        let left = self.total.saturating_sub(self.read);
        if count > left {
            return Err(self.damaged(format!("{count} bytes are promised, and {left} are left")));
        }
        let mut bytes = Vec::new();
        (&mut self.file).take(count).read_to_end(&mut bytes).map_err(|error| PrepareError::io(self.path, error))?;
        self.read += bytes.len() as u64;
        if bytes.len() as u64 == count { Ok(bytes) } else { Err(self.damaged("the file became shorter")) }
    }

    /// Reads the index at the end of a file, and its dictionaries.
    fn read_index(&mut self) -> Result<(), PrepareError> {
        let end = END.0 + END.1;
        self.seek(self.total.saturating_sub(end))?;
        let mark = self.bytes(end)?;
        if !mark.ends_with(MAGIC) {
            return Err(self.damaged("the mark at the end is missing: the file was cut short, or not closed"));
        }
        let length = u64::from(u32::from_le_bytes(std::array::from_fn(|at| mark[at])));
        self.seek(self.total.saturating_sub(end + length))?;
        let index = self.bytes(length)?;
        let footer = arrow_ipc::root_as_footer(&index).map_err(|error| self.damaged(error))?;
        let schema = footer.schema().ok_or_else(|| self.damaged("the index has no columns"))?;
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|error| self.damaged(error))?);
        let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
        for block in footer.dictionaries().into_iter().flatten() {
            let bytes = self.block(block)?;
            decoder.read_dictionary(block, &bytes).map_err(|error| self.damaged(error))?;
        }
        let blocks = footer.recordBatches().into_iter().flatten().copied().collect();
        self.schema = Some(schema);
        self.form = Form::File(decoder, blocks);
        Ok(())
    }

    /// The bytes of a part that the index names.
    fn block(&mut self, block: &Block) -> Result<Buffer, PrepareError> {
        let place = u64::try_from(block.offset())
            .ok()
            .zip(u64::try_from(block.metaDataLength()).ok())
            .zip(u64::try_from(block.bodyLength()).ok());
        let ((start, head), body) = place.ok_or_else(|| self.damaged("the index has a negative length"))?;
        self.seek(start.min(self.total))?;
        let bytes = self.bytes(head.saturating_add(body))?;
        let (head, body) = bytes.split_at(head as usize);
        let after_mark = head.strip_prefix(&[0xff; 4]).unwrap_or(head);
        let message = after_mark.get(4..).ok_or_else(|| self.damaged("a part is too short for its head"))?;
        let message = arrow_ipc::root_as_message(message).map_err(|error| self.damaged(error))?;
        check_packed(&message, body).map_err(|fact| self.damaged(fact))?;
        Ok(Buffer::from_vec(bytes))
    }

    /// A length in four bytes, after the mark that goes before it.
    fn length(&mut self) -> Result<u32, PrepareError> {
        // Older streams end without the length of zero that newer ones have.
        if self.total - self.read < 4 {
            return Ok(0);
        }
        let mut length = || Ok(u32::from_le_bytes(self.bytes(4)?.try_into().unwrap_or_default()));
        match length()? {
            u32::MAX => length(),
            old => Ok(old),
        }
    }

    /// Reads one message of a stream. `false` after the last.
    fn message(&mut self) -> Result<bool, PrepareError> {
        let length = self.length()?;
        if length == 0 {
            return Ok(false);
        }
        let head = self.bytes(length.into())?;
        let message = arrow_ipc::root_as_message(&head).map_err(|error| self.damaged(error))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| self.damaged("a length is negative"))?;
        let body = self.bytes(body)?;
        check_packed(&message, &body).map_err(|fact| self.damaged(fact))?;
        if let Some(schema) = message.header_as_schema().filter(|_| self.schema.is_none()) {
            // The decoder takes a message without a body for complete only when the next one begins.
            self.schema = Some(Arc::new(try_fb_to_schema(schema).map_err(|error| self.damaged(error))?));
        }
        let mark = [&[0xff; 4][..], &length.to_le_bytes()].concat();
        for part in [mark, head, body] {
            let mut part = Buffer::from_vec(part);
            while let Form::Stream(decoder, batches) = &mut self.form
                && !part.is_empty()
            {
                let decoded = decoder.decode(&mut part);
                match decoded {
                    Ok(batch) => batches.extend(batch),
                    Err(error) => return Err(self.damaged(error)),
                }
            }
        }
        Ok(true)
    }

    fn schema(&self) -> Result<SchemaRef, PrepareError> {
        let none = || PrepareError::file(self.path, "the file does not begin with its columns; is it Arrow IPC?");
        self.schema.clone().ok_or_else(none)
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, PrepareError> {
        loop {
            match &mut self.form {
                Form::Stream(_, batches) => match batches.pop_front() {
                    Some(batch) => return Ok(Some(batch)),
                    None if self.message()? => {}
                    None => return Ok(None),
                },
                Form::File(_, blocks) => {
                    let Some(block) = blocks.pop_front() else { return Ok(None) };
                    let bytes = self.block(&block)?;
                    let Form::File(decoder, _) = &self.form else { return Ok(None) };
                    let batch = decoder.read_record_batch(&block, &bytes).map_err(|error| self.damaged(error))?;
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
            }
        }
    }
}

/// Refuses packed buffers that promise to become larger than any that was packed: memory is taken by that promise.
fn check_packed(message: &arrow_ipc::Message<'_>, body: &[u8]) -> Result<(), String> {
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    for buffer in batch.buffers().into_iter().flatten() {
        let place = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let part = place.and_then(|(start, length)| body.get(start..start.checked_add(length)?));
        let part = part.ok_or("a buffer is not in its message")?;
        let Some(promised) = part.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes)) else { continue };
        let (most, times) = MOST_UNPACKED;
        if promised > 0 && promised as u64 > most.min((part.len() as u64).saturating_mul(times)) {
            return Err(format!("{} packed bytes promise to become {promised}", part.len()));
        }
    }
    Ok(())
}
