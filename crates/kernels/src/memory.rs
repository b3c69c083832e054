//! Freed memory is kept for the next tensor.
//!
//! A solver's step makes a handful of tensors of the state's size and frees as many. By default glibc maps each large one
//! anew and gives it back at once, and the kernel clears its pages every time: on small models that costs more than
//! the arithmetic between the cell's evaluations.

/// Asks the C library's allocator to keep what is freed, up to the process's own peak, instead of returning it to the
/// system; a program calls this once, first thing. Does nothing where the allocator is not glibc's.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Blocks up to this size come from the heap: larger ones are mapped on their own.
        const MAPPED_FROM: i32 = 1 << 30;
        /// So much free memory may lie at the heap's end.
        const KEPT: i32 = i32::MAX;
        /// The heap grows by so much at a time.
        const GROWTH: i32 = 64 << 20;
        /// One heap for all threads: those of other threads hold 64 MiB at most, and go back to the system when empty.
        const HEAPS: i32 = 1;
        for (option, value) in [
            (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
            (libc::M_TRIM_THRESHOLD, KEPT),
            (libc::M_TOP_PAD, GROWTH),
            (libc::M_ARENA_MAX, HEAPS),
        ] {
            // SAFETY: mallopt takes two integers, and locks the allocator while it sets an option. Refusal (0) leaves
            // the default, which is merely slower.
            #[allow(unsafe_code)]
            unsafe {
                libc::mallopt(option, value);
            }
        }
    }
}
