use proptest::prelude::*;

use super::*;

fn look(bytes: &[u8]) -> Structure {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    Structure::of(&path).unwrap()
}

fn boxed(name: &[u8; 4], inside: &[u8]) -> Vec<u8> {
    [&(inside.len() as u32 + 8).to_be_bytes()[..], name, inside].concat()
}

fn element(id: &[u8], inside: &[u8]) -> Vec<u8> {
    let size = (inside.len() as u32 | 0x1000_0000).to_be_bytes();
    [id, &size, inside].concat()
}

fn chunk(name: &[u8; 4], inside: &[u8]) -> Vec<u8> {
    let pad: &[u8] = if inside.len() % 2 == 1 { &[0] } else { &[] };
    [name, &(inside.len() as u32).to_le_bytes()[..], inside, pad].concat()
}

fn mp4() -> Vec<u8> {
    [boxed(b"ftyp", b"isom0000"), boxed(b"moov", &boxed(b"mvhd", &[7; 20])), boxed(b"mdat", &[1; 500])]
        .concat()
}

fn fragmented() -> Vec<u8> {
    let one = [boxed(b"moof", &[3; 60]), boxed(b"mdat", &[1; 300])].concat();
    [boxed(b"ftyp", b"isom0000"), boxed(b"moov", &[0; 40]), one.clone(), one].concat()
}

fn matroska() -> Vec<u8> {
    let block = element(&[0xa3], &[0x81, 0, 40, 0, 9, 9, 9, 9]);
    let cluster =
        element(&[0x1f, 0x43, 0xb6, 0x75], &[element(&[0xe7], &[3, 232]), block.repeat(5)].concat());
    let segment = [element(&[0x15, 0x49, 0xa9, 0x66], &[0; 0]), cluster.repeat(3)].concat();
    [element(&[0x1a, 0x45, 0xdf, 0xa3], &[0; 8]), element(&[0x18, 0x53, 0x80, 0x67], &segment)].concat()
}

fn avi() -> Vec<u8> {
    let mut head = vec![0u8; 56];
    head[..4].copy_from_slice(b"vids");
    head[32] = 6;
    let list = |name: &[u8; 4], inside: &[u8]| chunk(b"LIST", &[&name[..], inside].concat());
    let pictures = chunk(b"00dc", &[5; 33]).repeat(6);
    let inside =
        [b"AVI ".to_vec(), list(b"hdrl", &list(b"strl", &chunk(b"strh", &head))), list(b"movi", &pictures)]
            .concat();
    chunk(b"RIFF", &inside)
}

fn transport() -> Vec<u8> {
    let mut packet = vec![0x47];
    packet.resize(188, 3);
    packet.repeat(9)
}

fn flash() -> Vec<u8> {
    let mut tag = vec![9, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0];
    tag.resize(61, 2);
    tag.extend(61u32.to_be_bytes());
    [b"FLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec(), tag.repeat(4)].concat()
}

fn program() -> Vec<u8> {
    let mut pack = vec![0, 0, 1, 0xba, 0x44, 0, 4, 0, 4, 1, 0, 0, 3, 0xf8];
    pack.extend([0, 0, 1, 0xe0, 0, 200]);
    pack.extend([8; 200]);
    pack.repeat(4)
}

fn ogg() -> Vec<u8> {
    let mut page = b"OggS".to_vec();
    page.resize(26, 0);
    page.extend([2, 100, 50]);
    page.extend([6; 150]);
    page.repeat(3)
}

#[test]
fn whole_files_are_whole() {
    for (name, bytes) in [
        ("mp4", mp4()),
        ("fragmented", fragmented()),
        ("mkv", matroska()),
        ("avi", avi()),
        ("ts", transport()),
        ("flv", flash()),
        ("mpg", program()),
        ("ogg", ogg()),
        ("zeros at the end", [mp4(), vec![0; 100]].concat()),
        ("noise", vec![0xa5; 3000]),
        ("short", vec![1]),
    ] {
        assert!(look(&bytes).is_whole(), "{name}: {:?}", look(&bytes));
    }
    assert_eq!(look(&avi()).pictures, Some(6));
}

#[test]
fn a_file_cut_at_any_byte_after_its_head_is_cut() {
    for (name, bytes, from) in [
        ("mp4", mp4(), 60),
        ("mkv", matroska(), 20),
        ("avi", avi(), 20),
        ("flv", flash(), 20),
        ("mpg", program(), 230),
        ("ogg", ogg(), 190),
        ("ts", transport(), 189 * 4),
    ] {
        for end in from..bytes.len() {
            let found = look(&bytes[..end]);
            // Where a packet ends, a stream that promises nothing is whole.
            let boundary = match name {
                "ts" => end % 188 == 0,
                "flv" => (end - 13) % 65 == 0,
                // The zeros of a start code may be padding.
                "mpg" => matches!(end % 220, 14..=16 | 0..=2),
                "ogg" => end % 179 == 0,
                "mp4" => end == 16 + 36,
                _ => false,
            };
            assert_eq!(found.is_whole(), boundary, "{name} cut at {end} of {}: {found:?}", bytes.len());
        }
    }
    // Of a fragment, its index without its data is not whole.
    let bytes = fragmented();
    let whole: Vec<usize> = (70..bytes.len()).filter(|end| look(&bytes[..*end]).is_whole()).collect();
    // The zeros a box's size begins with may be padding.
    let end = 16 + 48 + 68 + 308;
    assert_eq!(
        whole,
        [end, end + 1, end + 2, end + 3],
        "but whole fragments are all a recorder has written so far"
    );
}

#[test]
fn a_hole_in_the_chain_is_noticed_with_its_place() {
    for (name, mut bytes) in
        [("mkv", matroska()), ("avi", avi()), ("flv", flash()), ("fragmented", fragmented())]
    {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 80].fill(0);
        let found = look(&bytes);
        assert!(!found.is_whole(), "{name}");
        assert!(found.broken_at.is_some_and(|at| at < middle as u64 + 80), "{name}: {found:?}");
    }
    // The time is that of the last block before: 1000 ms and 40.
    let mut bytes = matroska();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 30].fill(0);
    assert_eq!(look(&bytes).broken_ns, Some(1_040_000_000));
}

#[test]
fn data_without_an_index_is_told_from_data_before_it() {
    let (kind, index) = (boxed(b"ftyp", b"isom0000"), boxed(b"moov", &[0; 40]));
    let data = boxed(b"mdat", &[1; 500]);
    for (name, parts, lost) in [
        ("the index first", &[&kind[..], &index, &data][..], false),
        ("the index last", &[&kind, &data, &index], false),
        ("no index", &[&kind, &data], true),
        ("no data either", &[&kind], false),
    ] {
        assert_eq!(look(&parts.concat()).index_lost, lost, "{name}");
    }
    let plain = [kind.clone(), data.clone(), index].concat();
    for (end, lost) in
        [(kind.len() + 4, false), (kind.len() + 9, true), (plain.len() - 49, true), (plain.len() - 9, false)]
    {
        let found = look(&plain[..end]);
        assert!(found.cut && found.index_lost == lost, "{end}: {found:?}");
    }
    // A segment of a stream has an index of its own, a still picture another kind of one.
    assert!(!look(&fragmented()[kind.len() + 48..]).index_lost);
    assert!(!look(&[kind.clone(), boxed(b"meta", &[0; 40]), data.clone()].concat()).index_lost);
    // Beyond the damage there may be one.
    assert!(!look(&[kind, data, vec![0xee; 400]].concat()).index_lost);
}

proptest! {
    /// Whatever the bytes are, the walk comes to an end.
    #[test]
    fn noise_is_survived(
        kind in 0usize..8,
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes =
            [mp4(), fragmented(), matroska(), avi(), transport(), flash(), program(), ogg()][kind].clone();
        for (at, value) in hits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        look(&bytes);
    }
}
