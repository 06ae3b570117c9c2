//! Tesseract's C interface (`tesseract/capi.h`, versions 4 and 5), opened at run time.
//!
//! This is the one module that calls Tesseract: everything it offers is safe. [`Library`] is the opened library, [`Handle`] one
//! initialised instance of it.
#![expect(
    unsafe_code,
    reason = "Tesseract is a C++ library with a C interface; each call is wrapped here and nowhere else"
)]

use std::ffi::{CStr, CString, c_char, c_float, c_int, c_uchar, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use image::GrayImage;

/// The opened library. Cheap to clone; it stays in memory until the process ends.
#[derive(Clone)]
pub(super) struct Library(Arc<Functions>);

/// One initialised instance: a set of languages, loaded.
pub(super) struct Handle {
    functions: Arc<Functions>,
    raw: NonNull<c_void>,
}

/// Why an instance did not start, with what its folder of language data holds.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// The folder that was searched.
    pub(super) data_path: String,
    /// The languages that are there.
    pub(super) languages: Vec<String>,
}

/// How Tesseract looks for text (`TessPageSegMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segmentation {
    /// A page: columns, paragraphs, lines.
    Auto = 3,
    /// One block of lines.
    Block = 6,
    /// As much text as can be found, in no order.
    Sparse = 11,
}

/// One word that was read.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// The word.
    pub(super) text: String,
    /// 0 to 100.
    pub(super) confidence: f32,
    /// Left, top, right, bottom of the word, in pixels.
    pub(super) bounds: [i32; 4],
    /// Whether it is the first of its line.
    pub(super) starts_line: bool,
    /// Whether it is the first of its paragraph.
    pub(super) starts_paragraph: bool,
}

/// What orientation detection found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orientation {
    /// The degrees by which the picture is turned clockwise: 0, 90, 180 or 270.
    pub(super) degrees: u16,
    /// How sure it is; 0 is not at all, above about 10 is sure.
    pub(super) confidence: f32,
}

impl Library {
    /// Opens the first of the library's file names that is there.
    pub(super) fn open() -> Result<Self, libloading::Error> {
        Functions::open().map(|functions| Self(Arc::new(functions)))
    }

    /// The library's version: `5.3.0`.
    pub(super) fn version(&self) -> String {
        // SAFETY: takes nothing; returns a static C string.
        let version = unsafe { (self.0.version)() };
        text(version).unwrap_or_default()
    }

    /// Starts an instance with languages (`eng+deu`) and variables that must be set before the data is loaded.
    pub(super) fn start(
        &self,
        languages: &str,
        variables: &[(&CStr, &CStr)],
    ) -> Result<Handle, NotStarted> {
        let nothing = || NotStarted {
            data_path: String::new(),
            languages: Vec::new(),
        };
        let languages = CString::new(languages).map_err(|_| nothing())?;
        // SAFETY: takes nothing; returns a new instance that the handle owns from here on.
        let raw = NonNull::new(unsafe { (self.0.create)() }).ok_or_else(nothing)?;
        let mut handle = Handle {
            functions: Arc::clone(&self.0),
            raw,
        };
        // Tesseract writes its remarks to standard error otherwise.
        handle.set(c"debug_file", c"/dev/null");
        let mut names: Vec<*mut c_char> = variables
            .iter()
            .map(|(name, _)| name.as_ptr().cast_mut())
            .collect();
        let mut values: Vec<*mut c_char> = variables
            .iter()
            .map(|(_, value)| value.as_ptr().cast_mut())
            .collect();
        // SAFETY: the instance is live; the strings and both vectors outlive the call, which copies what it keeps and writes to none
        // of them; a null data path means the default one.
        let failed = unsafe {
            (self.0.init)(
                handle.raw.as_ptr(),
                ptr::null(),
                languages.as_ptr(),
                OEM_DEFAULT,
                ptr::null_mut(),
                0,
                names.as_mut_ptr(),
                values.as_mut_ptr(),
                names.len(),
                0,
            )
        };
        if failed != 0 {
            return Err(NotStarted {
                data_path: handle.data_path(),
                languages: handle.languages(),
            });
        }
        Ok(handle)
    }
}

impl Handle {
    /// Sets a variable; false where the library does not know it.
    pub(super) fn set(&mut self, name: &CStr, value: &CStr) -> bool {
        // SAFETY: the instance is live; both strings outlive the call, which copies them.
        unsafe {
            (self.functions.set_variable)(self.raw.as_ptr(), name.as_ptr(), value.as_ptr()) != 0
        }
    }

    /// The folder of the language data.
    pub(super) fn data_path(&self) -> String {
        // SAFETY: the instance is live; the string belongs to it and is copied at once.
        text(unsafe { (self.functions.data_path)(self.raw.as_ptr()) }).unwrap_or_default()
    }

    /// The languages whose data is installed, sorted.
    pub(super) fn languages(&self) -> Vec<String> {
        // SAFETY: the instance is live; the answer is a null-terminated array of C strings that is now ours.
        let array = unsafe { (self.functions.available_languages)(self.raw.as_ptr()) };
        let mut languages = Vec::new();
        if array.is_null() {
            return languages;
        }
        for index in 0.. {
            // SAFETY: the array ends with a null pointer, at which the loop stops.
            let item = unsafe { *array.add(index) };
            let Some(language) = text(item) else { break };
            languages.push(language);
        }
        // SAFETY: the array came from the library and is not used after this.
        unsafe { (self.functions.delete_text_array)(array) };
        languages.sort();
        languages
    }

    /// The orientation of a picture; none where too little text was found. Needs an instance with the data `osd`.
    pub(super) fn orientation(
        &mut self,
        picture: &GrayImage,
        dots_per_inch: u32,
    ) -> Option<Orientation> {
        self.set_picture(picture, dots_per_inch)?;
        let mut degrees: c_int = 0;
        let mut confidence: c_float = 0.0;
        let mut script: *const c_char = ptr::null();
        let mut script_confidence: c_float = 0.0;
        // SAFETY: the instance is live and has a picture; the four places outlive the call.
        let found = unsafe {
            (self.functions.detect_orientation)(
                self.raw.as_ptr(),
                &raw mut degrees,
                &raw mut confidence,
                &raw mut script,
                &raw mut script_confidence,
            )
        };
        self.clear();
        let degrees = u16::try_from(degrees)
            .ok()
            .filter(|degrees| degrees % 90 == 0 && *degrees < 360)?;
        (found != 0).then_some(Orientation {
            degrees,
            confidence,
        })
    }

    /// Reads a picture; the words come in reading order.
    pub(super) fn recognise(
        &mut self,
        picture: &GrayImage,
        dots_per_inch: u32,
        segmentation: Segmentation,
    ) -> Vec<Word> {
        if self.set_picture(picture, dots_per_inch).is_none() {
            return Vec::new();
        }
        // SAFETY: the instance is live; the values are those of TessPageSegMode.
        unsafe { (self.functions.set_segmentation)(self.raw.as_ptr(), segmentation as c_int) };
        // SAFETY: the instance is live and has a picture; a null monitor is allowed.
        let failed = unsafe { (self.functions.recognize)(self.raw.as_ptr(), ptr::null_mut()) };
        let words = if failed == 0 {
            self.words()
        } else {
            Vec::new()
        };
        self.clear();
        words
    }

    fn words(&mut self) -> Vec<Word> {
        let functions = &self.functions;
        let mut words = Vec::new();
        // SAFETY: the instance is live and has recognised a picture; the iterator is ours and is deleted below, before the results.
        let iterator = unsafe { (functions.iterator)(self.raw.as_ptr()) };
        if iterator.is_null() {
            return words;
        }
        // A paragraph or a line may begin at a word without text: the mark then goes to the next word.
        let (mut starts_line, mut starts_paragraph) = (false, false);
        loop {
            // SAFETY: the iterator is live; this is a view of the same object, owned by it.
            let page = unsafe { (functions.page_iterator)(iterator) };
            // SAFETY: the iterator is live.
            starts_line |= unsafe { (functions.begins)(page, RIL_TEXTLINE) } != 0;
            // SAFETY: the iterator is live.
            starts_paragraph |= unsafe { (functions.begins)(page, RIL_PARA) } != 0;
            // SAFETY: the iterator is live; the string is ours and freed below.
            let raw = unsafe { (functions.word_text)(iterator, RIL_WORD) };
            let word = text(raw);
            if !raw.is_null() {
                // SAFETY: the string came from the library and is not used after this.
                unsafe { (functions.delete_text)(raw) };
            }
            // Tesseract writes marks of direction around right-to-left words; logical order needs none.
            let word = word.map(|word| word.replace(['\u{200e}', '\u{200f}'], ""));
            if let Some(text) = word.filter(|word| !word.trim().is_empty()) {
                words.push(Word {
                    text: text.trim().to_owned(),
                    // SAFETY: the iterator is live.
                    confidence: unsafe { (functions.word_confidence)(iterator, RIL_WORD) },
                    bounds: bounds(functions, page, RIL_WORD),
                    starts_line: std::mem::take(&mut starts_line),
                    starts_paragraph: std::mem::take(&mut starts_paragraph),
                });
            }
            // SAFETY: the iterator is live.
            if unsafe { (functions.next)(iterator, RIL_WORD) } == 0 {
                break;
            }
        }
        // SAFETY: the iterator is ours and not used after this.
        unsafe { (functions.delete_iterator)(iterator) };
        words
    }

    fn set_picture(&mut self, picture: &GrayImage, dots_per_inch: u32) -> Option<()> {
        let width = c_int::try_from(picture.width())
            .ok()
            .filter(|width| *width > 0)?;
        let height = c_int::try_from(picture.height())
            .ok()
            .filter(|height| *height > 0)?;
        self.functions.one_thread();
        // SAFETY: the instance is live; the buffer holds height rows of width bytes (GrayImage keeps them so) and is copied.
        unsafe {
            (self.functions.set_image)(
                self.raw.as_ptr(),
                picture.as_raw().as_ptr(),
                width,
                height,
                1,
                width,
            );
        }
        // SAFETY: the instance is live and has a picture.
        unsafe {
            (self.functions.set_resolution)(
                self.raw.as_ptr(),
                c_int::try_from(dots_per_inch).unwrap_or(300),
            );
        }
        Some(())
    }

    /// Frees the picture and its results; the languages stay loaded.
    fn clear(&mut self) {
        // SAFETY: the instance is live; no iterator on its results is.
        unsafe { (self.functions.clear)(self.raw.as_ptr()) };
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the instance is ours, and this is its last use.
        unsafe { (self.functions.delete)(self.raw.as_ptr()) };
    }
}

// SAFETY: an instance has no ties to the thread that made it; it is used by one thread at a time, which `&mut` sees to (the two
// methods with `&self` only read).
unsafe impl Send for Handle {}

fn bounds(functions: &Functions, page: *mut c_void, level: c_int) -> [i32; 4] {
    let mut bounds: [c_int; 4] = [0; 4];
    let [left, top, right, bottom] = &mut bounds;
    // SAFETY: the caller's iterator is live; the four places outlive the call, which leaves them alone when it finds nothing.
    unsafe { (functions.bounding_box)(page, level, left, top, right, bottom) };
    bounds
}

fn text(raw: *const c_char) -> Option<String> {
    if raw.is_null() {
        return None;
    }
    // SAFETY: every string of the library ends with a null byte and lives until the caller frees it or drops its owner.
    Some(
        unsafe { CStr::from_ptr(raw) }
            .to_string_lossy()
            .into_owned(),
    )
}

const OEM_DEFAULT: c_int = 3;
const RIL_PARA: c_int = 1;
const RIL_TEXTLINE: c_int = 2;
const RIL_WORD: c_int = 3;

const LIBRARY_FILES: [&str; 4] = [
    "libtesseract.so.5",
    "libtesseract.so.4",
    "libtesseract.5.dylib",
    "libtesseract.dylib",
];

type Api = *mut c_void;
type Results = *mut c_void;

/// The functions that are used; the library that holds them is never unloaded.
struct Functions {
    version: unsafe extern "C" fn() -> *const c_char,
    create: unsafe extern "C" fn() -> Api,
    delete: unsafe extern "C" fn(Api),
    init: unsafe extern "C" fn(
        Api,
        *const c_char,
        *const c_char,
        c_int,
        *mut *mut c_char,
        c_int,
        *mut *mut c_char,
        *mut *mut c_char,
        usize,
        c_int,
    ) -> c_int,
    data_path: unsafe extern "C" fn(Api) -> *const c_char,
    available_languages: unsafe extern "C" fn(Api) -> *mut *mut c_char,
    set_variable: unsafe extern "C" fn(Api, *const c_char, *const c_char) -> c_int,
    set_segmentation: unsafe extern "C" fn(Api, c_int),
    set_image: unsafe extern "C" fn(Api, *const c_uchar, c_int, c_int, c_int, c_int),
    set_resolution: unsafe extern "C" fn(Api, c_int),
    detect_orientation: unsafe extern "C" fn(
        Api,
        *mut c_int,
        *mut c_float,
        *mut *const c_char,
        *mut c_float,
    ) -> c_int,
    recognize: unsafe extern "C" fn(Api, *mut c_void) -> c_int,
    clear: unsafe extern "C" fn(Api),
    iterator: unsafe extern "C" fn(Api) -> Results,
    delete_iterator: unsafe extern "C" fn(Results),
    page_iterator: unsafe extern "C" fn(Results) -> Results,
    next: unsafe extern "C" fn(Results, c_int) -> c_int,
    begins: unsafe extern "C" fn(Results, c_int) -> c_int,
    bounding_box: unsafe extern "C" fn(
        Results,
        c_int,
        *mut c_int,
        *mut c_int,
        *mut c_int,
        *mut c_int,
    ) -> c_int,
    word_text: unsafe extern "C" fn(Results, c_int) -> *mut c_char,
    word_confidence: unsafe extern "C" fn(Results, c_int) -> c_float,
    delete_text: unsafe extern "C" fn(*mut c_char),
    delete_text_array: unsafe extern "C" fn(*mut *mut c_char),
    /// `omp_set_max_active_levels`, where the library was built with OpenMP.
    set_parallel_levels: Option<unsafe extern "C" fn(c_int)>,
}

impl Functions {
    fn open() -> Result<Self, libloading::Error> {
        let mut opened = Err(libloading::Error::DlOpenUnknown);
        for file in LIBRARY_FILES {
            // SAFETY: the library's initialisers are those of a distribution's package, the same as when it is linked.
            let this = unsafe { libloading::Library::new(file) };
            // The first failure names the file that should be there.
            if this.is_ok() || matches!(opened, Err(libloading::Error::DlOpenUnknown)) {
                opened = this;
            }
            if opened.is_ok() {
                break;
            }
        }
        let library = opened?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the field's type is the signature in tesseract/capi.h, which versions 4 and 5 share (BOOL is int).
                unsafe { *library.get(concat!($name, "\0"))? }
            };
        }
        // SAFETY: as above; it is already in memory when Tesseract was built with it.
        let openmp = unsafe { libloading::Library::new("libgomp.so.1") }.ok();
        let set_parallel_levels = openmp
            .as_ref()
            // SAFETY: the type is the signature in omp.h.
            .and_then(|openmp| unsafe { openmp.get("omp_set_max_active_levels\0") }.ok())
            .map(|function| *function);
        let functions = Self {
            version: function!("TessVersion"),
            create: function!("TessBaseAPICreate"),
            delete: function!("TessBaseAPIDelete"),
            init: function!("TessBaseAPIInit4"),
            data_path: function!("TessBaseAPIGetDatapath"),
            available_languages: function!("TessBaseAPIGetAvailableLanguagesAsVector"),
            set_variable: function!("TessBaseAPISetVariable"),
            set_segmentation: function!("TessBaseAPISetPageSegMode"),
            set_image: function!("TessBaseAPISetImage"),
            set_resolution: function!("TessBaseAPISetSourceResolution"),
            detect_orientation: function!("TessBaseAPIDetectOrientationScript"),
            recognize: function!("TessBaseAPIRecognize"),
            clear: function!("TessBaseAPIClear"),
            iterator: function!("TessBaseAPIGetIterator"),
            delete_iterator: function!("TessResultIteratorDelete"),
            page_iterator: function!("TessResultIteratorGetPageIterator"),
            next: function!("TessResultIteratorNext"),
            begins: function!("TessPageIteratorIsAtBeginningOf"),
            bounding_box: function!("TessPageIteratorBoundingBox"),
            word_text: function!("TessResultIteratorGetUTF8Text"),
            word_confidence: function!("TessResultIteratorConfidence"),
            delete_text: function!("TessDeleteText"),
            delete_text_array: function!("TessDeleteTextArray"),
            set_parallel_levels,
        };
        quiet_leptonica();
        // Never unloaded: native code with threads of its own does not survive that.
        std::mem::forget((library, openmp));
        Ok(functions)
    }

    /// Keeps Tesseract from starting threads on the calling thread's behalf: on few cores they make it several times slower.
    fn one_thread(&self) {
        if let Some(set_parallel_levels) = self.set_parallel_levels {
            // SAFETY: takes a number and sets it for the calling thread.
            unsafe { set_parallel_levels(0) };
        }
    }
}

/// Leptonica, which Tesseract stands on, writes its remarks to standard error otherwise.
fn quiet_leptonica() {
    const NO_MESSAGES: c_int = 6;
    for file in ["liblept.so.5", "libleptonica.so.6"] {
        // SAFETY: it is in memory already when Tesseract uses it.
        let Ok(leptonica) = (unsafe { libloading::Library::new(file) }) else {
            continue;
        };
        // SAFETY: the type is the signature in leptonica's allheaders.h.
        let set_severity =
            unsafe { leptonica.get::<unsafe extern "C" fn(c_int) -> c_int>("setMsgSeverity\0") };
        if let Ok(set_severity) = set_severity {
            // SAFETY: takes a number and keeps it.
            unsafe { set_severity(NO_MESSAGES) };
        }
        std::mem::forget(leptonica);
    }
}
