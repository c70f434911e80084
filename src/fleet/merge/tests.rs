use std::fs::File;
use std::io::BufWriter;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::table::{Cell, Holds, Table};
use super::*;

#[test]
fn fields_are_quoted_where_they_must_be_and_no_name_is_a_formula() {
    let mut csv = Csv::new();
    csv.line(&["a.mp4", "partial", "cut off, \"early\"", "k"]);
    csv.line(&["=cmd()|x", "failed", "two\nlines", ""]);
    assert_eq!(
        csv.0,
        "recording,state,reason,key\r\na.mp4,partial,\"cut off, \"\"early\"\"\",k\r\n\"'=cmd()|x\",failed,\"two\nlines\",\r\n"
    );
}

#[test]
fn a_table_reads_back_with_its_gaps_over_several_groups() {
    let t = tempfile::tempdir().unwrap();
    let path = t.path().join("a.parquet");
    let columns = [("name", Holds::Text), ("n", Holds::Whole), ("x", Holds::Real)];
    let write = || {
        let mut table =
            Table::create("a.parquet", BufWriter::new(File::create(&path).unwrap()), &columns).unwrap();
        for n in 0..150_000u64 {
            let name = format!("recording {}", n / 1000);
            let n_cell = if n % 7 == 0 { Cell::None } else { Cell::Whole(n) };
            table.row(&[name.as_str().into(), n_cell, (n as f64 / 8.0).into()]).unwrap();
        }
        assert!(
            table.row(&[Cell::None]).is_err() && table.row(&[1u64.into(), Cell::None, Cell::None]).is_err()
        );
        table.finish().unwrap();
        std::fs::read(&path).unwrap()
    };
    let bytes = write();
    assert_eq!(bytes, write(), "the bytes depend on the rows alone");
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    assert_eq!((reader.num_row_groups(), reader.metadata().file_metadata().num_rows()), (3, 150_000));
    for (n, row) in reader.get_row_iter(None).unwrap().enumerate() {
        let row = row.unwrap();
        let fields: Vec<_> = row.get_column_iter().map(|(_, f)| f.clone()).collect();
        let whole = if n % 7 == 0 { Field::Null } else { Field::Long(n as i64) };
        assert_eq!(
            fields,
            [Field::Str(format!("recording {}", n / 1000)), whole, Field::Double(n as f64 / 8.0)]
        );
    }
}

#[test]
fn a_folder_with_other_things_in_it_is_left_alone() {
    let t = tempfile::tempdir().unwrap();
    let target = t.path().join("merged");
    let folder = Folder::create(&target, false).unwrap();
    folder.whole("failed.csv", b"one").unwrap();
    folder.publish().unwrap();
    assert!(Folder::create(&target, false).err().unwrap().to_string().contains("--force"));
    // Dropped before its end, it changes nothing.
    drop(Folder::create(&target, true).unwrap());
    assert_eq!(std::fs::read(target.join("failed.csv")).unwrap(), b"one");
    let folder = Folder::create(&target, true).unwrap();
    folder.whole("failed.csv", b"two").unwrap();
    folder.publish().unwrap();
    assert_eq!(std::fs::read(target.join("failed.csv")).unwrap(), b"two");
    std::fs::write(target.join("thesis.txt"), "x").unwrap();
    assert!(Folder::create(&target, true).err().unwrap().to_string().contains("thesis.txt"));
    assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 1);
}
