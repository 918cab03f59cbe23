//! Compiles one body for several instruction sets and chooses one at run time.

use std::fmt;
use std::sync::OnceLock;

/// What differs between instruction sets beyond the width of a vector.
pub(crate) trait Isa: Copy {
    /// `a * b + c`.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
    /// `a * b + c` in double precision.
    fn mul_add_f64(a: f64, b: f64, c: f64) -> f64;
}

/// Has an instruction for `a * b + c`.
#[derive(Clone, Copy)]
pub(crate) struct Fused;

/// Multiplies, rounds, then adds: a fused multiplication would be a library call here.
#[derive(Clone, Copy)]
pub(crate) struct Separate;

impl Isa for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

impl Isa for Separate {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn mul_add_f64(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

/// The instructions of every processor of the target.
#[cfg(target_arch = "aarch64")]
pub(crate) type Baseline = Fused;
/// The instructions of every processor of the target.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) type Baseline = Separate;

/// Instruction sets a body is compiled for. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdLevel {
    /// The instructions of every processor of the target.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    Avx512,
}

/// The environment variable that limits the kernels to a level.
const CAP: &str = "TEMPOGRAPH_CPU";

static LEVEL: OnceLock<SimdLevel> = OnceLock::new();

/// The level in use. It is cached because kernels read it for every row.
#[inline]
pub(crate) fn level() -> SimdLevel {
    *LEVEL.get_or_init(|| read().unwrap_or_else(|why| panic!("{why}")))
}

fn read() -> Result<SimdLevel, String> {
    let asked = std::env::var_os(CAP).map(|value| value.to_string_lossy().into_owned());
    capped(SimdLevel::of_processor(), asked.as_deref())
}

/// The best level, or the requested one.
fn capped(best: SimdLevel, asked: Option<&str>) -> Result<SimdLevel, String> {
    let Some(asked) = asked else { return Ok(best) };
    let level = match asked {
        "baseline" => SimdLevel::Baseline,
        "avx2" => SimdLevel::Avx2,
        "avx512" => SimdLevel::Avx512,
        _ => return Err(format!("{CAP} = \"{asked}\"; it is \"baseline\", \"avx2\" or \"avx512\"")),
    };
    if level > best {
        return Err(format!("{CAP} = \"{asked}\"; this processor has {best} and no {level}"));
    }
    Ok(level)
}

impl SimdLevel {
    /// The level of the kernels: the best of this processor, or the one in `TEMPOGRAPH_CPU` (`baseline`, `avx2` or
    /// `avx512`). It is read once, and is the same for the whole program.
    ///
    /// # Errors
    /// Another name, or a level that this processor does not have. Kernels that run nevertheless panic.
    pub fn chosen() -> Result<SimdLevel, String> {
        match LEVEL.get() {
            Some(level) => Ok(*level),
            None => read().map(|level| *LEVEL.get_or_init(|| level)),
        }
    }

    /// The best level of this processor, whatever was requested.
    pub fn of_processor() -> SimdLevel {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512dq") && has!("avx512bw") && has!("avx512vl") {
                return SimdLevel::Avx512;
            }
            if has!("avx2") && has!("fma") {
                return SimdLevel::Avx2;
            }
        }
        SimdLevel::Baseline
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            SimdLevel::Baseline => "baseline vector instructions",
            SimdLevel::Avx2 => "AVX2",
            SimdLevel::Avx512 => "AVX-512",
        })
    }
}

/// Declares a function whose body is compiled once per [`SimdLevel`]. Loops over slices become vector code;
/// whatever the body calls must be `#[inline(always)]`.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$isa:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<$isa: $crate::cpu::vector::simd::Isa>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::cpu::vector::simd::Fused>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::cpu::vector::simd::Fused>($($arg),*)
            }

            match $crate::cpu::vector::simd::level() {
                // SAFETY: the level was detected on this processor.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::vector::simd::SimdLevel::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::vector::simd::SimdLevel::Avx2 => unsafe { avx2($($arg),*) },
                _ => body::<$crate::cpu::vector::simd::Baseline>($($arg),*),
            }
        }
    };
}
pub(crate) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_capped_by_its_name_and_what_is_not_there_is_refused() {
        use SimdLevel::*;
        assert_eq!(capped(Avx2, None), Ok(Avx2));
        for (asked, level) in [("baseline", Baseline), ("avx2", Avx2), ("avx512", Avx512)] {
            assert_eq!(capped(Avx512, Some(asked)), Ok(level));
        }
        let refused = capped(Avx2, Some("avx512")).unwrap_err();
        assert_eq!(refused, "TEMPOGRAPH_CPU = \"avx512\"; this processor has AVX2 and no AVX-512");
        for asked in ["", "AVX2", "sse2"] {
            let refused = capped(Avx512, Some(asked)).unwrap_err();
            assert!(refused.contains(&format!("\"{asked}\"; it is \"baseline\"")), "{refused}");
        }
    }
}
