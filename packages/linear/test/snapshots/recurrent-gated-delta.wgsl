// gatedDelta, token by token: 32 columns of a 64 × 64 state in each workgroup, 2 lanes to a column, 32 rows each.

struct Parameters {
  firstTask: u32,
  endTask: u32,
  firstStep: i32,  // this dispatch walks steps firstStep … endStep − 1 of each lane
  endStep: i32,
  isFresh: u32,  // the state begins as zeros
  scale: f32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> query: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(2) var<storage, read> key: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(3) var<storage, read> value: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(4) var<storage, read> inputs: array<u32>;  // what the rule reads besides, float32, one after another
@group(0) @binding(5) var<storage, read> integers: array<i32>;  // 17 for each lane
@group(0) @binding(6) var<storage, read_write> memory: array<f32>;  // G of each lane [64, 64]
@group(0) @binding(7) var<storage, read_write> output: array<f32>;  // [batch, heads, rows, 64]

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

// −∞ of a table as the lowest number: arithmetic may assume that nothing is infinite.
fn finite(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0xff7fffffu, bits == 0xff800000u));
}

var<workgroup> shares: array<f32, 128>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }
  let lane = task / 2u;
  let column = (task % 2u) * 32u + local % 32u;
  let rowGroup = local / 32u;
  let firstRow = rowGroup * 32u;
  let isColumn = column < 64u;
  let queryRow = integers[lane * 17u + 0u];
  let keyRow = integers[lane * 17u + 1u];
  let valueRow = integers[lane * 17u + 2u];
  let outputRow = integers[lane * 17u + 3u];
  let queryCount = integers[lane * 17u + 4u];
  let keyCount = integers[lane * 17u + 5u];
  let shift = integers[lane * 17u + 6u];
  let steps = integers[lane * 17u + 7u];
  let state = integers[lane * 17u + 8u];
  let logDecay = integers[lane * 17u + 9u];
  let logDecayStep = integers[lane * 17u + 10u];
  let writeStrength = integers[lane * 17u + 11u];
  let writeStrengthStep = integers[lane * 17u + 12u];

  // The state as it was left.
  var held: array<f32, 32>;
  for (var n = 0u; n < 32u; n++) {
    let row = firstRow + n;
    if (parameters.isFresh == 0u && isColumn) {
      held[n] = memory[(u32(state) * 64u + row) * 64u + column];
    }
  }
  var parity = 0u;

  for (var t = parameters.firstStep; t < min(parameters.endStep, steps); t++) {
    let step = t + min(shift, 0i);
    let queryIndex = step - shift;
    let hasKey = step >= 0i && step < keyCount;
    let hasQuery = queryIndex >= 0i && queryIndex < queryCount;
    let keyAt = u32(keyRow + max(step, 0i)) * 64u;
    let queryAt = u32(queryRow + max(queryIndex, 0i)) * 64u;
    var element = 0.0f;
    if (hasKey && isColumn) {
      element = value[u32(valueRow + step) * 64u + column];
    }
    let logDecayAt = u32(logDecay + step * logDecayStep);
    let writeStrengthAt = u32(writeStrength + step * writeStrengthStep);
    if (hasKey) {
      let decay = exponential(finite(inputs[logDecayAt]));
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        held[n] *= decay;
      }
    }
    var recalled = 0.0f;
    if (hasKey) {
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        recalled = fma(key[keyAt + row], held[n], recalled);
      }
    }
    shares[parity + local] = recalled;
    workgroupBarrier();
    recalled = 0.0f;
    for (var other = 0u; other < 2u; other++) {
      recalled += shares[parity + other * 32u + local % 32u];
    }
    parity = 64u - parity;
    if (hasKey) {
      let strength = finite(inputs[writeStrengthAt]);
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        held[n] = fma(-key[keyAt + row] * strength, recalled, held[n]);
      }
    }
    if (hasKey) {
      let written = element * finite(inputs[writeStrengthAt]);
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        held[n] = fma(key[keyAt + row], written, held[n]);
      }
    }
    var read = 0.0f;
    if (hasQuery) {
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        read = fma(query[queryAt + row], held[n], read);
      }
    }
    shares[parity + local] = read;
    workgroupBarrier();
    read = 0.0f;
    for (var other = 0u; other < 2u; other++) {
      read += shares[parity + other * 32u + local % 32u];
    }
    parity = 64u - parity;
    if (hasQuery && isColumn && rowGroup == 0u) {
      output[u32(outputRow + queryIndex) * 64u + column] = parameters.scale * read;
    }
  }

  // The state as it is left.
  for (var n = 0u; n < 32u; n++) {
    let row = firstRow + n;
    if (isColumn) {
      memory[(u32(state) * 64u + row) * 64u + column] = held[n];
    }
  }
}
