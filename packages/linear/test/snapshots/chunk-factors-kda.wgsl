// Chunks of 16 tokens: what does not depend on values or on the state, one workgroup for each chunk.
// Decay by channel; what key recalls is removed along key.

struct Parameters {
  firstTask: u32,
  endTask: u32,
  firstChunk: u32,  // chunks firstChunk … firstChunk + chunks − 1 of each lane
  chunks: u32,
  isFresh: u32,  // the state begins as zeros
  scale: f32,
  width: u32,  // sizes, where one program serves all of them
  columns: u32,
  valueDim: u32,
  tokens: u32,  // of a chunk; loops that count to a number of the call are not unrolled, which compiles in a tenth of the time
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> query: array<f32>;  // [batch, heads, rows, width]
@group(0) @binding(2) var<storage, read> key: array<f32>;  // [batch, heads, rows, width]
@group(0) @binding(3) var<storage, read> inputs: array<u32>;  // what the rule reads besides, float32
@group(0) @binding(4) var<storage, read> integers: array<i32>;  // 17 for each lane
@group(0) @binding(5) var<storage, read_write> factors: array<f32>;  // of each lane and chunk: within, total, read, write, recall, remove

// −∞ of a table as the lowest number: arithmetic may assume that nothing is infinite.
fn finite(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0xff7fffffu, bits == 0xff800000u));
}

// e^x to about 2 units in the last place; 0 below −87, the largest number above 88.7.
fn exponential(x: f32) -> f32 {
  let bounded = clamp(x, -104.0f, 88.72f);
  let n = round(bounded * 1.4426950408889634f);
  let rest = fma(n, -1.4286068203094173e-06f, fma(n, -0.693145751953125f, bounded));
  let tail = fma(fma(fma(fma(0.0013814173871651292f, rest, 0.008368921466171741f), rest, 0.04166840761899948f), rest, 0.1666651964187622f), rest, 0.4999999403953552f);
  let mantissa = fma(tail, rest * rest, rest) + 1.0f;
  let half = i32(n) / 2i;
  let other = i32(n) - half;
  return mantissa * bitcast<f32>((half + 127i) << 23u) * bitcast<f32>((other + 127i) << 23u);
}

var<workgroup> queryAt: array<i32, 16>;  // −1: the token has none
var<workgroup> keyAt: array<i32, 16>;  // −1: the token has none
var<workgroup> logDecayAt: array<i32, 16>;  // −1: the token has none
var<workgroup> writeStrengthAt: array<i32, 16>;  // −1: the token has none
var<workgroup> strengths: array<f32, 16>;
var<workgroup> decays: array<f32, 16>;
var<workgroup> parts: array<f32, 1024>;
var<workgroup> queryWritten: array<f32, 256>;
var<workgroup> recallWritten: array<f32, 256>;
var<workgroup> solved: array<f32, 256>;

fn queryOf(t: u32, channel: u32) -> f32 {
    if (queryAt[t] < 0i) { return 0.0f; }
    return query[u32(queryAt[t]) + channel];
}
fn writtenOf(t: u32, channel: u32) -> f32 {
    if (keyAt[t] < 0i) { return 0.0f; }
    return key[u32(keyAt[t]) + channel] * strengths[t];
}
fn recallOf(t: u32, channel: u32) -> f32 {
    if (keyAt[t] < 0i) { return 0.0f; }
    return key[u32(keyAt[t]) + channel];
}
fn decayOf(t: u32, channel: u32) -> f32 {
    if (keyAt[t] < 0i) { return 1.0f; }
    return exponential(finite(inputs[u32(logDecayAt[t]) + channel]));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }
  let lane = task / parameters.chunks;
  let chunk = task % parameters.chunks;
  let queryRow = integers[lane * 17u + 0u];
  let keyRow = integers[lane * 17u + 1u];
  let queryCount = integers[lane * 17u + 4u];
  let keyCount = integers[lane * 17u + 5u];
  let shift = integers[lane * 17u + 6u];
  let steps = integers[lane * 17u + 7u];
  let logDecay = integers[lane * 17u + 9u];
  let logDecayStep = integers[lane * 17u + 10u];
  let writeStrength = integers[lane * 17u + 11u];
  let writeStrengthStep = integers[lane * 17u + 12u];
  let firstStep = i32((parameters.firstChunk + chunk) * 16u);
  if (firstStep >= steps) {
    return;
  }
  let base = task * (256u + 65u * parameters.width);

  // Where each token’s rows stand.
  if (local < 16u) {
    let step = firstStep + i32(local) + min(shift, 0i);
    let queryIndex = step - shift;
    let hasKey = step >= 0i && step < keyCount;
    let hasQuery = queryIndex >= 0i && queryIndex < queryCount;
    queryAt[local] = select(-1i, (queryRow + queryIndex) * i32(parameters.width), hasQuery);
    keyAt[local] = select(-1i, (keyRow + step) * i32(parameters.width), hasKey);
    logDecayAt[local] = select(-1i, logDecay + step * logDecayStep, hasKey);
    writeStrengthAt[local] = select(-1i, writeStrength + step * writeStrengthStep, hasKey);
    strengths[local] = select(0.0f, finite(inputs[u32(max(writeStrengthAt[local], 0i))]), hasKey);
  }
  workgroupBarrier();

  // Products of rows: 2 matrices of 16 rows, 2 slices of the channels.
   {
    let slice = local / 32u;
    let matrix = local / 16u % 2u;
    let t = local % 16u;
    var sums: array<f32, 16>;
    let isRecall = matrix == 1u;
    let isRemoved = false;
    // A recalled row meets earlier tokens alone.
    let last = select(t + 1u, t, isRecall);
    for (var channel = slice; channel < parameters.width; channel += 2u) {
      var left = queryOf(t, channel);
      if (isRecall) {
        left = recallOf(t, channel);
      }
      var factor = select(1.0f, decayOf(t, channel), isRecall);
      for (var back = last; back > 0u; back--) {
        let j = back - 1u;
        var right = writtenOf(j, channel);
        sums[j] = fma(left, factor * right, sums[j]);
        factor *= decayOf(j, channel);
      }
    }
    for (var j = 0u; j < parameters.tokens; j++) {
      parts[local * 16u + j] = sums[j];
    }
  }
  workgroupBarrier();
  for (var element = local; element < 256u; element += 64u) {
    queryWritten[element] = parts[0u + element] + parts[512u + element];
    recallWritten[element] = parts[256u + element] + parts[768u + element];
  }
  workgroupBarrier();

  // What recalled rows hold of each value, and what queries then do.
  if (local < 16u) {
    var column: array<f32, 16>;
    for (var t = 0u; t < parameters.tokens; t++) {
      var sum = recallWritten[t * 16u + local];
      for (var j = 0u; j < t; j++) {
        sum = fma(-recallWritten[t * 16u + j], column[j], sum);
      }
      column[t] = sum;
      solved[t * 16u + local] = sum;
      var result = queryWritten[t * 16u + local];
      for (var j = 0u; j <= t; j++) {
        result = fma(-queryWritten[t * 16u + j], column[j], result);
      }
      factors[base + t * 16u + local] = result;
    }
  }
  workgroupBarrier();

  // Rows of queries, of what is recalled, removed and written, a channel at a time.
  for (var channel = local; channel < parameters.width; channel += 64u) {
    var column: array<f32, 16>;
    var since = 1.0f;
    for (var t = 0u; t < parameters.tokens; t++) {
      let before = since;
      since *= decayOf(t, channel);
      var row = queryOf(t, channel) * since;
      var sum = recallOf(t, channel) * since;
      for (var j = 0u; j < t; j++) {
        sum = fma(-recallWritten[t * 16u + j], column[j], sum);
      }
      column[t] = sum;
      factors[base + (256u + 33u * parameters.width) + t * parameters.width + channel] = sum;
      for (var j = 0u; j <= t; j++) {
        row = fma(-queryWritten[t * 16u + j], column[j], row);
      }
      factors[base + (256u + 1u * parameters.width) + t * parameters.width + channel] = row;
    }
    factors[base + 256u + channel] = since;
    var until = 1.0f;
    for (var back = parameters.tokens; back > 0u; back--) {
      let t = back - 1u;
      var row = writtenOf(t, channel) * until;
      column[t] = writtenOf(t, channel) * until;
      factors[base + (256u + 49u * parameters.width) + t * parameters.width + channel] = column[t];
      for (var later = t + 1u; later < parameters.tokens; later++) {
        row = fma(-solved[later * 16u + t], column[later], row);
      }
      factors[base + (256u + 17u * parameters.width) + t * parameters.width + channel] = row;
      until *= decayOf(t, channel);
    }
  }
}
