/**
 * Functions that generated shaders call, one row each. WGSL leaves a device much freedom in its own: sin and cos may be off by 2⁻¹¹ and tanh by 10⁻⁵, so
 * these are polynomials with a stated error, in float32 throughout. Coefficients are least-maximum fits over the reduced range.
 */
export type Builtin =
  | 'floorDivide' | 'floorModulo' | 'exponential' | 'naturalLogarithm' | 'hyperbolicTangent' | 'sine' | 'cosine' | 'power' | 'turned'
  | 'threefry' | 'unitInterval' | 'fromFloat16' | 'fromBfloat16' | 'toFloat16' | 'toBfloat16' | 'finite';

interface BuiltinRow {
  readonly needs?: readonly Builtin[];
  readonly code: string;
}

const rows: Readonly<Record<Builtin, BuiltinRow>> = {
  floorDivide: {
    code: `// Floor of the quotient; the divisor is positive.
fn floorDivide(a: i32, b: i32) -> i32 {
  return a / b - select(0i, 1i, a % b < 0i);
}`,
  },
  floorModulo: {
    code: `// Rest of floorDivide, 0 … b − 1.
fn floorModulo(a: i32, b: i32) -> i32 {
  let rest = a % b;
  return rest + select(0i, b, rest < 0i);
}`,
  },
  exponential: {
    code: `// e^x to about 2 units in the last place; 0 below −87, the largest number above 88.7.
fn exponential(x: f32) -> f32 {
  let bounded = clamp(x, -104.0f, 88.72f);
  let n = round(bounded * 1.4426950408889634f);
  let rest = fma(n, -1.4286068203094173e-06f, fma(n, -0.693145751953125f, bounded));
  let tail = fma(fma(fma(fma(0.0013814173871651292f, rest, 0.008368921466171741f), rest, 0.04166840761899948f), rest, 0.1666651964187622f), rest, 0.4999999403953552f);
  let mantissa = fma(tail, rest * rest, rest) + 1.0f;
  let half = i32(n) / 2i;
  let other = i32(n) - half;
  return mantissa * bitcast<f32>((half + 127i) << 23u) * bitcast<f32>((other + 127i) << 23u);
}`,
  },
  naturalLogarithm: {
    code: `// ln x to about 2 units in the last place, for x ≥ 0; the lowest number at 0.
fn naturalLogarithm(x: f32) -> f32 {
  let small = x < 1.1754943508222875e-38f;
  let bits = bitcast<i32>(select(x, x * 8388608.0f, small)) - 0x3f3504f3i;
  let exponent = f32(bits >> 23u) - select(0.0f, 23.0f, small);
  let m = bitcast<f32>((bits & 0x007fffffi) + 0x3f3504f3i) - 1.0f;
  let square = m * m;
  var tail = -0.07635655999183655f;
  tail = fma(tail, m, 0.12763327360153198f);
  tail = fma(tail, m, -0.1316058188676834f);
  tail = fma(tail, m, 0.14201553165912628f);
  tail = fma(tail, m, -0.16623298823833466f);
  tail = fma(tail, m, 0.20001234114170074f);
  tail = fma(tail, m, -0.250008225440979f);
  tail = fma(tail, m, 0.3333333134651184f);
  let small_terms = fma(exponent, 1.4286068203094173e-06f, m * square * tail) - 0.5f * square;
  return select(fma(exponent, 0.693145751953125f, small_terms + m), -3.4028234663852886e38f, x <= 0.0f);
}`,
  },
  hyperbolicTangent: {
    code: `// tanh x to 6 units in the last place: a quotient of polynomials; ±1 beyond ±9.02.
fn hyperbolicTangent(x: f32) -> f32 {
  let bounded = clamp(x, -9.02f, 9.02f);
  let square = bounded * bounded;
  let numerator = fma(fma(fma(fma(1.331912077477582e-8f, square, 2.05835195623866e-5f), square, 0.003494037016763673f), square, 0.1337972005202577f), square, 0.999999979025227f);
  let denominator = fma(fma(fma(fma(7.762040336942855e-7f, square, 0.0003283096766960469f), square, 0.025871082679569547f), square, 0.46713035294970423f), square, 1.0f);
  return bounded * numerator / denominator;
}`,
  },
  turned: {
    code: `// sin(x + quarter · π/2), for |x| up to some ten thousand: the angle is reduced by π/2 in three parts.
fn turned(x: f32, quarter: i32) -> f32 {
  let turns = round(x * 0.6366197723675814f);
  let angle = fma(turns, -7.549789948768648e-8f, fma(turns, -0.0004837512969970703f, fma(turns, -1.5703125f, x)));
  let which = i32(turns) + quarter;
  let square = angle * angle;
  let sineTail = fma(fma(fma(2.718046516747563e-6f, square, -0.0001983930415008217f), square, 0.008333329111337662f), square, -0.1666666716337204f);
  let cosineTail = fma(fma(fma(-2.720504710396199e-7f, square, 2.479945214872714e-5f), square, -0.0013888883404433727f), square, 0.0416666679084301f);
  let sine = fma(sineTail, angle * square, angle);
  let cosine = fma(cosineTail, square * square, fma(square, -0.5f, 1.0f));
  let value = select(sine, cosine, (which & 1i) != 0i);
  return select(value, -value, (which & 2i) != 0i);
}`,
  },
  sine: { needs: ['turned'], code: `fn sine(x: f32) -> f32 {\n  return turned(x, 0i);\n}` },
  cosine: { needs: ['turned'], code: `fn cosine(x: f32) -> f32 {\n  return turned(x, 1i);\n}` },
  power: {
    needs: ['exponential', 'naturalLogarithm'],
    code: `// base ** exponent for base ≥ 0; 1 where the exponent is 0.
fn power(base: f32, exponent: f32) -> f32 {
  let result = select(exponential(exponent * naturalLogarithm(base)), 0.0f, base == 0.0f && exponent > 0.0f);
  return select(result, 1.0f, exponent == 0.0f);
}`,
  },
  threefry: {
    code: `// Threefry-2x32 with 20 rounds (Salmon 2011): two words of counter under two words of key.
fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
  let distances = array<u32, 8>(13u, 15u, 26u, 6u, 17u, 29u, 16u, 24u);
  let keys = array<u32, 3>(key.x, key.y, 0x1bd11bdau ^ key.x ^ key.y);
  var x = counter + key;
  for (var round = 0u; round < 20u; round++) {
    let distance = distances[round % 8u];
    x.x += x.y;
    x.y = ((x.y << distance) | (x.y >> (32u - distance))) ^ x.x;
    if (round % 4u == 3u) {
      let injection = (round + 1u) / 4u;
      x.x += keys[injection % 3u];
      x.y += keys[(injection + 1u) % 3u] + injection;
    }
  }
  return x;
}`,
  },
  unitInterval: {
    code: `// A word as a number strictly between 0 and 1: (23 upper bits + ½) · 2⁻²³.
fn unitInterval(word: u32) -> f32 {
  return (f32(word >> 9u) + 0.5f) * 1.1920928955078125e-7f;
}`,
  },
  finite: {
    code: `// −∞ of a table as the lowest number: arithmetic may assume that nothing is infinite.
fn finite(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0xff7fffffu, bits == 0xff800000u));
}`,
  },
  fromFloat16: {
    code: `fn fromFloat16(half: u32) -> f32 {
  let magnitude = half & 0x7fffu;
  let sign = (half & 0x8000u) << 16u;
  let normal = (magnitude << 13u) + 0x38000000u;
  let denormal = bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8f);
  let special = 0x7f800000u | ((magnitude & 0x3ffu) << 13u);
  return bitcast<f32>(sign | select(select(denormal, normal, magnitude >= 0x0400u), special, magnitude >= 0x7c00u));
}`,
  },
  fromBfloat16: { code: `fn fromBfloat16(half: u32) -> f32 {\n  return bitcast<f32>(half << 16u);\n}` },
  toFloat16: {
    code: `// The bits of a float32 as float16, rounded to nearest even; ±∞ from 65520 on.
fn toFloat16(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  let sign = (bits >> 16u) & 0x8000u;
  let normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13u) & 1u)) >> 13u;
  let shift = min(126u - min(magnitude >> 23u, 126u), 31u);
  let mantissa = (magnitude & 0x007fffffu) | 0x00800000u;
  let quotient = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  let denormal = quotient + select(0u, 1u, rest > half || (rest == half && (quotient & 1u) == 1u));
  var result = select(normal, denormal, magnitude < 0x38800000u);
  result = select(result, 0u, magnitude < 0x33000000u);
  result = select(result, 0x7c00u, magnitude >= 0x477ff000u);
  return sign | select(result, 0x7e00u, magnitude > 0x7f800000u);
}`,
  },
  toBfloat16: {
    code: `// The bits of a float32 as bfloat16, rounded to nearest even.
fn toBfloat16(bits: u32) -> u32 {
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, 0x7fc0u | (bits >> 16u), (bits & 0x7fffffffu) > 0x7f800000u);
}`,
  },
};

/** The declarations of these functions and of those that they call, each once, callees first. */
export function declareBuiltins(used: Iterable<Builtin>): readonly string[] {
  const done = new Set<Builtin>();
  const code: string[] = [];
  const add = (name: Builtin): void => {
    if (done.has(name)) return;
    done.add(name);
    for (const needed of rows[name].needs ?? []) add(needed);
    code.push(rows[name].code);
  };
  for (const name of used) add(name);
  return code;
}
