//! JPEG: a file's bytes flow in; its EXIF orientation flows out, or how much of the picture is missing.
//!
//! Decoders fill what is missing with grey and call it a picture, so the coded data are walked through here: every scan
//! must hold a code for each of its blocks, and the file must come to its end-of-image mark. The walk reads codes but
//! computes no pixels, which takes a fraction of the decoding. What it does not know (arithmetic coding, tables left
//! out) it does not judge; the decoder then decides.

use super::{Fault, exif};

/// Bytes of coded data behind the last block that are no padding: the codes went astray somewhere before.
const LEFT_OVER: usize = 64;

/// A code table: lengths and values as the file gives them, ready for decoding bit by bit and, for short codes, at
/// once.
struct Codes {
    /// Length (high byte, 0 for longer codes) and value of the code that the next 8 bits begin with.
    short: [u16; 256],
    /// Largest code of each length, or -1.
    largest: [i32; 17],
    /// Index of a length's first value less its first code.
    offset: [i32; 17],
    values: Vec<u8>,
}

impl Codes {
    fn new(counts: &[u8], values: &[u8]) -> Self {
        let mut out = Self { short: [0; 256], largest: [-1; 17], offset: [0; 17], values: values.to_vec() };
        let (mut code, mut index) = (0i32, 0i32);
        for length in 1..=16usize {
            let count = i32::from(counts[length - 1]);
            out.offset[length] = index - code;
            if count > 0 {
                out.largest[length] = code + count - 1;
            }
            for i in 0..count {
                if length <= 8
                    && let Some(&value) = values.get((index + i) as usize)
                {
                    let first = ((code + i) as usize) << (8 - length);
                    for entry in out.short.iter_mut().skip(first).take(1 << (8 - length)) {
                        *entry = (length as u16) << 8 | u16::from(value);
                    }
                }
            }
            code = (code + count) << 1;
            index += count;
        }
        out
    }
}

/// Why the walk ends before a scan's last block.
enum Stop {
    /// A mark or the file's end comes too early.
    Missing,
    /// Bits that are no code.
    NoCode,
}

/// Bits of coded data, up to the next mark.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// Holds at least 32 bits, if there are as many before the next mark.
    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if byte == 0xff {
                if self.bytes.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) -> Result<u32, Stop> {
        if self.count < n {
            self.fill();
            if self.count < n {
                return Err(Stop::Missing);
            }
        }
        self.count -= n;
        Ok((self.held >> self.count) as u32 & ((1u32 << n) - 1))
    }

    fn code(&mut self, codes: &Codes) -> Result<u8, Stop> {
        if self.count < 16 {
            self.fill();
        }
        if self.count >= 8 {
            let entry = codes.short[(self.held >> (self.count - 8)) as usize & 0xff];
            if entry != 0 {
                self.count -= u32::from(entry >> 8);
                return Ok(entry as u8);
            }
        }
        let mut code = 0;
        for length in 1..=16 {
            code = code << 1 | self.take(1)? as i32;
            if code <= codes.largest[length] {
                let index = (code + codes.offset[length]) as usize;
                return codes.values.get(index).copied().ok_or(Stop::NoCode);
            }
        }
        Err(Stop::NoCode)
    }

    /// Drops what is left of the last byte.
    fn align(&mut self) {
        self.held = 0;
        self.count = 0;
    }
}

/// One colour channel.
#[derive(Clone, Default)]
struct Channel {
    id: u8,
    /// Blocks a unit has across and down.
    across: usize,
    down: usize,
    /// Blocks across and down, without what only fills up units.
    columns: usize,
    rows: usize,
    /// Blocks a row takes with what fills up.
    stride: usize,
    /// Progressive: per block, the coefficients that are known not to be zero.
    nonzero: Vec<u64>,
    /// Progressive: bits still missing of each coefficient; `None` before its first scan.
    missing_bits: Option<[Option<u8>; 64]>,
    scanned: bool,
}

struct Frame {
    progressive: bool,
    channels: Vec<Channel>,
    units_across: usize,
    units_down: usize,
}

/// A scan's own numbers.
struct Scan {
    /// Channel, table of its first and of its other coefficients.
    parts: Vec<(usize, usize, usize)>,
    from: usize,
    to: usize,
    /// Position of the bit that was sent before, 0 for a first scan, and of the one sent now.
    before: u8,
    now: u8,
}

/// Looks a JPEG file through.
///
/// # Errors
/// It ends early, or its data are damaged.
pub(super) fn look(bytes: &[u8]) -> Result<Option<u8>, Fault> {
    Walk { bytes, at: 2, ..Walk::default() }.run()
}

#[derive(Default)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    /// Tables of first coefficients, then of the others.
    tables: [[Option<Codes>; 4]; 2],
    restart_every: usize,
    orientation: Option<u8>,
    /// Whether something came that this walk does not know.
    unknown: bool,
    scans: u32,
}

impl Walk<'_> {
    fn cut_off<T>(&self) -> Result<T, Fault> {
        Err(Fault::CutOff { percent: (self.scans == 0).then_some(0) })
    }

    fn run(mut self) -> Result<Option<u8>, Fault> {
        loop {
            let Some(mark) = self.mark() else {
                return if self.scans > 0 { Err(Fault::CutOff { percent: None }) } else { self.cut_off() };
            };
            match mark {
                0xd9 => break,
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let Some(length) = self.bytes.get(self.at..self.at + 2) else { return self.cut_off() };
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let Some(body) = self.bytes.get(self.at + 2..self.at + length.max(2)) else {
                return self.cut_off();
            };
            self.at += length.max(2);
            match mark {
                0xc0..=0xc2 if self.frame.is_none() => self.frame(body, mark == 0xc2)?,
                0xc4 => self.codes(body),
                0xc3 | 0xc5..=0xcf => self.unknown = true,
                0xdd if body.len() >= 2 => {
                    self.restart_every = usize::from(u16::from_be_bytes([body[0], body[1]]));
                }
                0xe1 if body.starts_with(b"Exif\0\0") && self.orientation.is_none() => {
                    self.orientation = exif::orientation(body);
                }
                0xda => {
                    self.scans += 1;
                    self.scan(body)?;
                }
                _ => {}
            }
        }
        self.complete()?;
        Ok(self.orientation)
    }

    /// Goes behind the next mark; between scans that is behind what is left of the coded data.
    fn mark(&mut self) -> Option<u8> {
        loop {
            let ahead = self.bytes.get(self.at..)?;
            self.at += ahead.iter().position(|b| *b == 0xff)? + 1;
            while *self.bytes.get(self.at)? == 0xff {
                self.at += 1;
            }
            let mark = self.bytes[self.at];
            self.at += 1;
            if mark != 0 {
                return Some(mark);
            }
        }
    }

    fn frame(&mut self, body: &[u8], progressive: bool) -> Result<(), Fault> {
        let damaged = || Fault::Damaged("its header".into());
        let [bits, h1, h0, w1, w0, count, rest @ ..] = body else { return Err(damaged()) };
        let (height, width) = (u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0]));
        super::check_size(u32::from(width), u32::from(height))?;
        self.unknown |= *bits != 8;
        let mut channels: Vec<Channel> = rest
            .chunks_exact(3)
            .take(usize::from(*count))
            .map(|c| Channel {
                id: c[0],
                across: usize::from(c[1] >> 4),
                down: usize::from(c[1] & 15),
                ..Channel::default()
            })
            .collect();
        let most = |of: fn(&Channel) -> usize| channels.iter().map(of).max().unwrap_or(0);
        let (across, down) = (most(|c| c.across), most(|c| c.down));
        if channels.len() != usize::from(*count)
            || channels.is_empty()
            || channels.iter().any(|c| !(1..=4).contains(&c.across) || !(1..=4).contains(&c.down))
        {
            return Err(damaged());
        }
        let (width, height) = (usize::from(width), usize::from(height));
        let (units_across, units_down) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        for c in &mut channels {
            c.columns = (width * c.across).div_ceil(across).div_ceil(8);
            c.rows = (height * c.down).div_ceil(down).div_ceil(8);
            c.stride = units_across * c.across;
            if progressive {
                c.nonzero = vec![0; c.stride * units_down * c.down];
                c.missing_bits = Some([None; 64]);
            }
        }
        self.frame = Some(Frame { progressive, channels, units_across, units_down });
        Ok(())
    }

    fn codes(&mut self, mut body: &[u8]) {
        while body.len() > 17 {
            let (kind, number) = (usize::from(body[0] >> 4), usize::from(body[0] & 15));
            let length: usize = body[1..17].iter().map(|c| usize::from(*c)).sum();
            let Some(values) = body.get(17..17 + length) else { break };
            if let Some(table) = self.tables.get_mut(kind).and_then(|t| t.get_mut(number)) {
                *table = Some(Codes::new(&body[1..17], values));
            }
            body = &body[17 + length..];
        }
    }

    /// Walks through one scan's data.
    fn scan(&mut self, body: &[u8]) -> Result<(), Fault> {
        let Some(frame) = &mut self.frame else {
            self.unknown = true;
            return Ok(());
        };
        let Some(scan) = Scan::read(body, &frame.channels) else {
            return Err(Fault::Damaged("the header of a scan".into()));
        };
        // Motion JPEG leaves the usual tables out; decoders know them.
        let known = |t: &[Option<Codes>; 4], i: usize| t.get(i).is_some_and(Option::is_some);
        let (first, others) = (&self.tables[0], &self.tables[1]);
        let complete = scan.parts.iter().all(|(_, dc, ac)| {
            let wants_first = !frame.progressive || (scan.from == 0 && scan.before == 0);
            let wants_others = !frame.progressive || scan.from > 0;
            (!wants_first || known(first, *dc)) && (!wants_others || known(others, *ac))
        });
        if self.unknown || !complete {
            self.unknown = true;
            return Ok(());
        }
        let (columns, rows) = match scan.parts.as_slice() {
            [(channel, ..)] => (frame.channels[*channel].columns, frame.channels[*channel].rows),
            _ => (frame.units_across, frame.units_down),
        };
        let units = columns * rows;
        let mut bits = Bits { bytes: self.bytes, at: self.at, held: 0, count: 0 };
        let mut run = 0;
        let mut stopped = None;
        for unit in 0..units {
            if unit > 0 && unit.is_multiple_of(self.restart_every) {
                bits.align();
                run = 0;
                if !restart(&mut bits) {
                    stopped = Some((unit, Stop::Missing));
                    break;
                }
            }
            let place = (unit % columns, unit / columns);
            if let Err(stop) = scan.unit(frame, &self.tables, &mut bits, place, &mut run) {
                stopped = Some((unit, stop));
                break;
            }
        }
        self.at = bits.at;
        match stopped {
            None => {}
            // Some cameras leave out the last bits.
            Some((unit, Stop::Missing)) if unit + 1 == units && units > 1 => {}
            Some((unit, stop)) => {
                let percent = (100 * unit / units) as u8;
                return Err(match stop {
                    // What has but one scan tells how much came; a progressive picture is there in part everywhere.
                    Stop::Missing if !frame.progressive && scan.parts.len() == frame.channels.len() => {
                        Fault::CutOff { percent: Some(percent) }
                    }
                    Stop::Missing => Fault::CutOff { percent: None },
                    Stop::NoCode => Fault::Damaged(format!("its data make no sense after {percent} %")),
                });
            }
        }
        let ahead = &self.bytes[self.at..];
        let left = ahead.windows(2).position(|w| w[0] == 0xff && w[1] != 0).unwrap_or(ahead.len());
        if ahead[..left].iter().filter(|b| **b != 0).count() > LEFT_OVER {
            return Err(Fault::Damaged("its data do not fit its size".into()));
        }
        for (channel, ..) in &scan.parts {
            let channel = &mut frame.channels[*channel];
            channel.scanned = true;
            for missing in channel.missing_bits.iter_mut().flat_map(|m| &mut m[scan.from..=scan.to]) {
                *missing = Some(scan.now);
            }
        }
        Ok(())
    }

    /// Whether the scans that came make the whole picture.
    fn complete(&self) -> Result<(), Fault> {
        let Some(frame) = &self.frame else { return Err(Fault::Damaged("it has no picture".into())) };
        if self.unknown {
            return Ok(());
        }
        let coarse = |c: &Channel| {
            // Nothing but means of blocks is what a first scan leaves; so are bits that never came.
            c.missing_bits
                .is_some_and(|m| m.iter().flatten().any(|b| *b > 0) || m[1..].iter().all(Option::is_none))
        };
        if frame.channels.iter().any(|c| !c.scanned || coarse(c)) {
            return Err(Fault::CutOff { percent: None });
        }
        Ok(())
    }
}

/// Goes behind the restart mark that must come here.
fn restart(bits: &mut Bits<'_>) -> bool {
    // Bytes before the mark are padding; a mark of another kind is not gone over.
    let Some(ahead) = bits.bytes.get(bits.at..) else { return false };
    let Some(found) = ahead.windows(2).position(|w| w[0] == 0xff && w[1] != 0 && w[1] != 0xff) else {
        return false;
    };
    let is_restart = (0xd0..=0xd7).contains(&ahead[found + 1]);
    if is_restart {
        bits.at += found + 2;
    }
    is_restart
}

impl Scan {
    fn read(body: &[u8], channels: &[Channel]) -> Option<Self> {
        let count = usize::from(*body.first()?);
        let parts = body.get(1..1 + 2 * count)?;
        let [from, to, bits] = body.get(1 + 2 * count..4 + 2 * count)?.try_into().ok()?;
        let parts: Vec<_> = parts
            .chunks_exact(2)
            .map(|p| {
                let channel = channels.iter().position(|c| c.id == p[0])?;
                Some((channel, usize::from(p[1] >> 4), usize::from(p[1] & 15)))
            })
            .collect::<Option<_>>()?;
        let (from, to) = (usize::from(from), usize::from(to));
        let sane = !parts.is_empty() && parts.len() <= 4 && from <= to && to < 64;
        sane.then_some(Self { parts, from, to, before: bits >> 4, now: bits & 15 })
    }

    /// The blocks of one unit: a single one, if the scan is of one channel.
    fn unit(
        &self,
        frame: &mut Frame,
        tables: &[[Option<Codes>; 4]; 2],
        bits: &mut Bits<'_>,
        (x, y): (usize, usize),
        run: &mut u32,
    ) -> Result<(), Stop> {
        let alone = self.parts.len() == 1;
        for &(number, first, others) in &self.parts {
            let channel = &mut frame.channels[number];
            let (across, down) = if alone { (1, 1) } else { (channel.across, channel.down) };
            let table =
                |kind: usize, i: usize| tables[kind].get(i).and_then(Option::as_ref).ok_or(Stop::NoCode);
            for v in 0..down {
                for h in 0..across {
                    if !frame.progressive {
                        baseline(bits, table(0, first)?, table(1, others)?)?;
                    } else if self.from == 0 {
                        if self.before > 0 {
                            bits.take(1)?;
                        } else {
                            let size = bits.code(table(0, first)?)?;
                            bits.take(u32::from(size.min(16)))?;
                        }
                    } else {
                        let at = (y * down + v) * channel.stride + x * across + h;
                        let known = channel.nonzero.get_mut(at).ok_or(Stop::NoCode)?;
                        let codes = table(1, others)?;
                        if self.before == 0 {
                            self.first_bits(bits, codes, known, run)?;
                        } else {
                            self.further_bits(bits, codes, known, run)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Progressive: the leading bits of a block's coefficients.
    fn first_bits(
        &self,
        bits: &mut Bits<'_>,
        codes: &Codes,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Stop> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut k = self.from;
        while k <= self.to {
            let code = bits.code(codes)?;
            let (zeros, size) = (u32::from(code >> 4), u32::from(code & 15));
            match (zeros, size) {
                (15, 0) => k += 16,
                (_, 0) => {
                    *run = (1 << zeros) - 1 + bits.take(zeros)?;
                    return Ok(());
                }
                _ => {
                    k += zeros as usize;
                    if k > self.to {
                        return Err(Stop::NoCode);
                    }
                    bits.take(size)?;
                    *known |= 1 << k;
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// Progressive: one more bit of each coefficient.
    fn further_bits(
        &self,
        bits: &mut Bits<'_>,
        codes: &Codes,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Stop> {
        let mut k = self.from;
        if *run == 0 {
            while k <= self.to {
                let code = bits.code(codes)?;
                let (mut zeros, new) = (u32::from(code >> 4), code & 15 != 0);
                if new {
                    bits.take(1)?;
                } else if zeros < 15 {
                    *run = (1 << zeros) + bits.take(zeros)?;
                    break;
                }
                while k <= self.to {
                    if *known >> k & 1 == 1 {
                        bits.take(1)?;
                    } else if zeros == 0 {
                        if new {
                            *known |= 1 << k;
                        }
                        k += 1;
                        break;
                    } else {
                        zeros -= 1;
                    }
                    k += 1;
                }
            }
        }
        if *run > 0 {
            for k in k..=self.to {
                if *known >> k & 1 == 1 {
                    bits.take(1)?;
                }
            }
            *run -= 1;
        }
        Ok(())
    }
}

/// All coefficients of a block.
fn baseline(bits: &mut Bits<'_>, first: &Codes, others: &Codes) -> Result<(), Stop> {
    let size = bits.code(first)?;
    bits.take(u32::from(size.min(16)))?;
    let mut k = 1;
    while k < 64 {
        let code = bits.code(others)?;
        let (zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
        match (zeros, size) {
            (15, 0) => k += 16,
            (_, 0) => break,
            _ => {
                k += zeros + 1;
                bits.take(size)?;
            }
        }
    }
    if k > 64 { Err(Stop::NoCode) } else { Ok(()) }
}
