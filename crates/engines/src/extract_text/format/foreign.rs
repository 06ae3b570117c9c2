//! Formats that are recognised and not read.

/// Formats that people send and that this task does not read, with what to do.
pub(super) fn foreign(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const AUDIO: &str = "send recordings to a service of the task transcribe";
    const UNPACK: &str = "unpack it and send the files in it";
    const SAVE: &str = "save it as JPEG or PNG";
    Some(match bytes {
        [0x1f, 0x8b, ..] => ("a gzip file", UNPACK),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => ("a bzip2 file", UNPACK),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("an xz file", UNPACK),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("a zstd file", UNPACK),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => ("a 7-Zip archive", UNPACK),
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => ("a RAR archive", UNPACK),
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', 0x90, 0, ..] => ("a program", ""),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'A',
            b'V',
            b'E',
            ..,
        ] => ("a WAV recording", AUDIO),
        [b'f', b'L', b'a', b'C', ..] => ("a FLAC recording", AUDIO),
        [b'O', b'g', b'g', b'S', ..] => ("an Ogg recording", AUDIO),
        [b'I', b'D', b'3', ..] | [0xff, 0xfb | 0xf3 | 0xf2, ..] => ("an MP3 recording", AUDIO),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e' | b'i', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i', b'f', ..] => ("a HEIC picture", SAVE),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => ("an AVIF picture", SAVE),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => ("an MP4 recording", AUDIO),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => {
            ("a JPEG 2000 picture", SAVE)
        }
        [b'A', b'T', b'&', b'T', b'F', b'O', b'R', b'M', ..] => {
            ("a DjVu document", "save it as PDF")
        }
        [b'%', b'!', b'P', b'S', ..] => ("a PostScript document", "save it as PDF"),
        [b'S', b'Q', b'L', b'i', b't', b'e', b' ', b'f', ..] => ("an SQLite database", ""),
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file", ""),
        [0x78, 0x9f, 0x3e, 0x22, ..] => (
            "an Outlook winmail.dat (TNEF)",
            "send the message from Outlook as HTML or plain text",
        ),
        _ => return None,
    })
}
