//! Rows of text: what separates the fields, and the fields of one row.

use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::{Input, Line, is_comment};
use crate::dataset::prepare::common::options::{Delimiter, Progress};

/// Bytes of the longest value in quotes that goes on over several lines.
const LONGEST_QUOTED: usize = 1 << 20;

const RETURNS: &str =
    r"the line holds a carriage return; lines end with \n or \r\n: convert them, as with `tr '\r' '\n'`";

/// The first lines of a file, and what they tell.
pub(crate) struct Sniffed {
    pub(crate) delimiter: Delimiter,
    /// Lines before the first row that are comments, without their sign.
    pub(crate) comments: Vec<String>,
    /// The fields of the first rows, and the row in the file of the first.
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) first_row: u64,
}

/// Reads rows of fields from the lines of a file.
pub(crate) struct RowReader {
    input: Input,
    splitter: Splitter,
    /// Fields of a row, where lines with another number of them may be comments.
    pub(crate) width: usize,
    /// The sign with which lines before the first row began.
    sign: Option<u8>,
    /// Lines between rows that were taken for comments.
    pub(crate) comments: u64,
}

/// The fields of one row.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: usize) -> &'a [u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        self.bytes[start..self.ends[at]].trim_ascii()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.len()).map(|at| self.get(at))
    }
}

/// Splits lines at a delimiter, with quotes as in csv.
struct Splitter {
    core: csv_core::Reader,
    blanks: bool,
    line: Vec<u8>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    length: usize,
    count: usize,
}

/// Where a line ended.
enum Ended {
    /// With the row.
    Row,
    /// Inside of quotes.
    Quoted,
    /// The line holds a carriage return outside of quotes.
    Returned,
}

impl Splitter {
    fn new(delimiter: Delimiter) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        match delimiter {
            Delimiter::Byte(byte) => builder.delimiter(byte),
            Delimiter::Blanks => builder.delimiter(b' '),
        };
        let blanks = delimiter == Delimiter::Blanks;
        let (bytes, ends) = (vec![0; 1 << 12], vec![0; 64]);
        Self { core: builder.build(), blanks, line: Vec::new(), bytes, ends, length: 0, count: 0 }
    }

    /// Splits a line, or goes on in the quotes that one before it has opened.
    fn split(&mut self, text: &[u8], goes_on: bool) -> Ended {
        self.line.clear();
        if !goes_on {
            (self.length, self.count) = (0, 0);
            self.core.reset();
        }
        if self.blanks && !goes_on {
            join_blanks(text, &mut self.line)
        } else {
            self.line.extend_from_slice(text)
        }
        self.line.push(b'\n');
        let mut taken = 0;
        loop {
            let (result, read, wrote, ended) = self.core.read_record(
                &self.line[taken..],
                &mut self.bytes[self.length..],
                &mut self.ends[self.count..],
            );
            (taken, self.length, self.count) = (taken + read, self.length + wrote, self.count + ended);
            match result {
                csv_core::ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len(), 0),
                csv_core::ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                csv_core::ReadRecordResult::InputEmpty => return Ended::Quoted,
                csv_core::ReadRecordResult::Record if taken < self.line.len() => return Ended::Returned,
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => return Ended::Row,
            }
        }
    }

    fn fields(&self) -> Fields<'_> {
        Fields { bytes: &self.bytes[..self.length], ends: &self.ends[..self.count] }
    }
}

/// `text` with one space for each run of blanks that is not in quotes.
fn join_blanks(text: &[u8], into: &mut Vec<u8>) {
    let mut quoted = false;
    for &byte in text.trim_ascii() {
        match byte {
            b' ' | b'\t' if !quoted => {
                if into.last() != Some(&b' ') {
                    into.push(b' ');
                }
            }
            b'"' => {
                quoted = if quoted { false } else { into.is_empty() || into.last() == Some(&b' ') };
                into.push(byte);
            }
            _ => into.push(byte),
        }
    }
}

impl Sniffed {
    /// Tells the delimiter from the first lines, unless it is `given`.
    pub(crate) fn of(input: &mut Input, given: Option<Delimiter>) -> Result<Self, PrepareError> {
        let path = input.path().to_owned();
        let lines = input.look_ahead()?;
        let start = lines.iter().position(|line| !line.is_comment()).unwrap_or(lines.len());
        let sign = |line: &Line<'_>| {
            String::from_utf8_lossy(line.text).trim().trim_start_matches(['#', '%']).trim().to_owned()
        };
        let comments = lines[..start].iter().map(sign).collect();
        let body: Vec<&[u8]> = lines[start..].iter().filter(|line| !line.is_comment()).map(|line| line.text).collect();
        let Some(first) = lines.get(start) else {
            return Err(PrepareError::file(&path, "there are no events"));
        };
        if first.text.contains(&0) {
            return Err(first.refuse("the line holds a zero byte: this is no text; see --format for what else is read"));
        }
        if first.text.contains(&b'\r') {
            return Err(first.refuse(RETURNS));
        }
        let delimiter = given.unwrap_or_else(|| delimiter_of(&body));
        Ok(Self { delimiter, comments, rows: split_all(&body, delimiter), first_row: first.row })
    }
}

/// The fields of lines that stand alone.
fn split_all(lines: &[&[u8]], delimiter: Delimiter) -> Vec<Vec<String>> {
    let mut splitter = Splitter::new(delimiter);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    lines
        .iter()
        .filter_map(|line| match splitter.split(line, false) {
            Ended::Row => Some(splitter.fields().iter().map(text).collect()),
            _ => None,
        })
        .collect()
}

/// The sign that splits all rows into as many fields, and the most of them; blanks only where no other does.
fn delimiter_of(lines: &[&[u8]]) -> Delimiter {
    let lines = &lines[..lines.len().min(100)];
    let count = |delimiter| -> usize {
        let counts: Vec<usize> = split_all(lines, delimiter).iter().map(Vec::len).collect();
        let body = if counts.len() > 1 { &counts[1..] } else { &counts[..] };
        match body.first() {
            Some(&first) if body.iter().filter(|&&count| count == first).count() * 10 >= body.len() * 9 => first,
            _ => 0,
        }
    };
    let signs = [b'\t', b',', b';', b'|'].map(Delimiter::Byte);
    let mut best = (0, Delimiter::Byte(b','));
    for sign in signs {
        let found = count(sign);
        if found >= 2 && found > best.0 {
            best = (found, sign);
        }
    }
    if best.0 < 3 && count(Delimiter::Blanks) > best.0.max(1) { Delimiter::Blanks } else { best.1 }
}

impl RowReader {
    pub(crate) fn new(input: Input, delimiter: Delimiter) -> Self {
        Self { input, splitter: Splitter::new(delimiter), width: 0, sign: None, comments: 0 }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.input.path()
    }

    /// Passes over the comments before the first row.
    pub(crate) fn pass_comments(&mut self) -> Result<(), PrepareError> {
        let lines = self.input.look_ahead()?;
        let count = lines.iter().take_while(|line| line.is_comment()).count();
        self.sign = lines[..count].first().and_then(|line| line.text.trim_ascii_start().first().copied());
        for _ in 0..count {
            self.input.next_line(&mut |_, _| {})?;
        }
        Ok(())
    }

    /// The next row and its number in the file.
    pub(crate) fn next_row(&mut self, progress: Progress<'_>) -> Result<Option<(u64, Fields<'_>)>, PrepareError> {
        loop {
            let Some(line) = self.input.next_line(&mut *progress)? else { return Ok(None) };
            let row = line.row;
            let remark = is_comment(line.text).then(|| line.text.trim_ascii_start()[0]);
            if remark.is_some() && remark == self.sign {
                self.comments += 1;
                continue;
            }
            let mut ended = self.splitter.split(line.text, false);
            let mut length = line.text.len();
            while let Ended::Quoted = ended {
                let Some(line) = self.input.next_line(&mut *progress)? else {
                    return Err(unclosed(self.input.path(), row));
                };
                length += line.text.len();
                if length > LONGEST_QUOTED {
                    return Err(unclosed(self.input.path(), row));
                }
                ended = self.splitter.split(line.text, true);
            }
            if let Ended::Returned = ended {
                return Err(PrepareError::row(self.input.path(), row, RETURNS));
            }
            // A name may begin with the sign of a comment; a row has as many fields as the others.
            if remark.is_some() && self.width > 0 && self.splitter.count != self.width {
                self.comments += 1;
                continue;
            }
            return Ok(Some((row, self.splitter.fields())));
        }
    }
}

fn unclosed(path: &std::path::Path, row: u64) -> PrepareError {
    PrepareError::row(
        path,
        row,
        "a quote is opened in this row and never closed; write `\"\"` for a quote inside of quotes",
    )
}
