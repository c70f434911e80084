//! A table as a Parquet file, written column by column without arrow.
//!
//! In: rows of cells. Out: a file that DuckDB, pandas, R and Spark read. The bytes depend on the rows alone.

use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

use parquet::basic::{Compression, GzipLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::{Error, Result};

/// Rows of a group: some megabytes of columns in memory.
const GROUP: usize = 1 << 16;

/// What a column holds. Every column may lack values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Whole,
    Real,
}

/// One value.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    Text(&'a str),
    Whole(u64),
    Real(f64),
    None,
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Cell::Text(text)
    }
}

impl From<u64> for Cell<'_> {
    fn from(n: u64) -> Self {
        Cell::Whole(n)
    }
}

impl From<f64> for Cell<'_> {
    fn from(v: f64) -> Self {
        Cell::Real(v)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(maybe: Option<T>) -> Self {
        maybe.map_or(Cell::None, Into::into)
    }
}

enum Values {
    Text(Vec<ByteArray>),
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

struct Column {
    values: Values,
    /// 1 where there is a value.
    there: Vec<i16>,
}

/// See the module.
pub(super) struct Table {
    name: &'static str,
    writer: SerializedFileWriter<BufWriter<File>>,
    columns: Vec<Column>,
    rows: usize,
    /// The text last seen, shared by the rows that repeat it.
    last: Option<ByteArray>,
}

impl Table {
    pub fn create(name: &'static str, file: BufWriter<File>, columns: &[(&str, Holds)]) -> Result<Self> {
        let schema = columns.iter().fold("message rows {\n".to_owned(), |text, (column, holds)| {
            let kind = match holds {
                Holds::Text => "BYTE_ARRAY",
                Holds::Whole => "INT64",
                Holds::Real => "DOUBLE",
            };
            let logical = if *holds == Holds::Text { " (STRING)" } else { "" };
            format!("{text}  OPTIONAL {kind} {column}{logical};\n")
        }) + "}\n";
        let failed = |e| failed(name, e);
        let schema = Arc::new(parse_message_type(&schema).map_err(failed)?);
        let properties = WriterProperties::builder()
            .set_created_by(concat!("polypscope ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::GZIP(GzipLevel::try_new(4).map_err(failed)?))
            .build();
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
        let column = |(_, holds): &(&str, Holds)| Column {
            values: match holds {
                Holds::Text => Values::Text(Vec::new()),
                Holds::Whole => Values::Whole(Vec::new()),
                Holds::Real => Values::Real(Vec::new()),
            },
            there: Vec::new(),
        };
        Ok(Self { name, writer, columns: columns.iter().map(column).collect(), rows: 0, last: None })
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: &[Cell]) -> Result<()> {
        if cells.len() != self.columns.len() {
            return Err(Error::internal(format!("{}: a row of another width", self.name)));
        }
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            let there = match (&mut column.values, *cell) {
                (Values::Text(v), Cell::Text(text)) => {
                    let shared = self.last.as_ref().filter(|l| l.data() == text.as_bytes()).cloned();
                    let text = shared.unwrap_or_else(|| ByteArray::from(text));
                    self.last = Some(text.clone());
                    v.push(text);
                    true
                }
                // 2^63 ns are 292 years.
                (Values::Whole(v), Cell::Whole(n)) => {
                    v.push(i64::try_from(n).unwrap_or(i64::MAX));
                    true
                }
                (Values::Real(v), Cell::Real(x)) => {
                    v.push(x);
                    true
                }
                (_, Cell::None) => false,
                _ => return Err(Error::internal(format!("{}: a cell of another kind", self.name))),
            };
            column.there.push(i16::from(there));
        }
        self.rows += 1;
        if self.rows >= GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let name = self.name;
        let failed = |e| failed(name, e);
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for column in &mut self.columns {
            let Some(mut out) = group.next_column().map_err(failed)? else { break };
            let there = Some(column.there.as_slice());
            match (out.untyped(), &mut column.values) {
                (ColumnWriter::ByteArrayColumnWriter(w), Values::Text(v)) => {
                    w.write_batch(v, there, None).map_err(failed)?;
                    v.clear();
                }
                (ColumnWriter::Int64ColumnWriter(w), Values::Whole(v)) => {
                    w.write_batch(v, there, None).map_err(failed)?;
                    v.clear();
                }
                (ColumnWriter::DoubleColumnWriter(w), Values::Real(v)) => {
                    w.write_batch(v, there, None).map_err(failed)?;
                    v.clear();
                }
                _ => return Err(Error::internal(format!("{name}: a column of another kind"))),
            }
            out.close().map_err(failed)?;
            column.there.clear();
        }
        group.close().map_err(failed)?;
        self.rows = 0;
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let name = self.name;
        let mut file = self.writer.into_inner().map_err(|e| failed(name, e))?;
        std::io::Write::flush(&mut file).map_err(|e| Error::write(name.as_ref(), e))
    }
}

/// What kept a table from being written: nearly always the disk.
fn failed(name: &str, e: ParquetError) -> Error {
    match e {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(io) => Error::write(name.as_ref(), *io),
            Err(other) => Error::output(format!("{name}: cannot be written ({other})")),
        },
        other => Error::output(format!("{name}: cannot be written ({other})")),
    }
}
