// tttLinear: pieces of at most 16 tokens, none across the end of a batch of 16, one workgroup for each value head.

struct Parameters {
  firstTask: u32,
  endTask: u32,
  firstToken: u32,
  endToken: u32,
  rate: f32,
  epsilon: f32,  // of the norm
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> query: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(2) var<storage, read> key: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(3) var<storage, read> value: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(4) var<storage, read> inputs: array<u32>;  // what the rule reads besides, float32
@group(0) @binding(5) var<storage, read> integers: array<i32>;  // 15 for each lane
@group(0) @binding(6) var<storage, read_write> work: array<f32>;  // the memory of each lane
@group(0) @binding(7) var<storage, read_write> counts: array<u32>;  // tokens of each lane’s mini-batch so far
@group(0) @binding(8) var<storage, read_write> output: array<f32>;  // [batch, heads, rows, 64]

// −∞ of a table as the lowest number: arithmetic may assume that nothing is infinite.
fn finite(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0xff7fffffu, bits == 0xff800000u));
}

var<workgroup> filledBefore: u32;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }
  let base = task * 22688u;
  let queryRow = integers[task * 15u + 0u];
  let keyRow = integers[task * 15u + 1u];
  let valueRow = integers[task * 15u + 2u];
  let outputRow = integers[task * 15u + 3u];
  let length = integers[task * 15u + 4u];
  let writeStrength = integers[task * 15u + 9u];
  let writeStrengthStep = integers[task * 15u + 10u];
  if (local == 0u) {
    filledBefore = counts[task];
  }
  var filled = workgroupUniformLoad(&filledBefore);
  let end = min(parameters.endToken, u32(length));
  for (var first = parameters.firstToken; first < end;) {
    let room = 16u - filled;
    let tokens = min(min(end - first, room), 16u);
    let batchEnds = tokens == room;
    for (var element = local; element < tokens * 65u; element += 128u) {
      let row = element / 65u;
      let column = element % 65u;
      var channel = 1.0f;
      if (column < 64u) { channel = key[(u32(keyRow) + first + row) * 64u + column]; }
      work[base + 0u + row * 72u + column] = channel;
    }
    storageBarrier();
    for (var element = local; element < tokens * 65u; element += 128u) {
      let row = element / 65u;
      let column = element % 65u;
      var channel = 1.0f;
      if (column < 64u) { channel = query[(u32(queryRow) + first + row) * 64u + column]; }
      work[base + 1152u + row * 72u + column] = channel;
    }
    storageBarrier();
    for (var element = local; element < tokens * 64u; element += 128u) {
      let row = element / 64u;
      let column = element % 64u;
      work[base + 2304u + row * 72u + column] = value[(u32(valueRow) + first + row) * 64u + column] - work[base + 0u + row * 72u + column];
    }
    storageBarrier();

    // given ← set key × weight, plain
    for (var element = local; element < tokens * 64u; element += 128u) {
      let row = element / 64u;
      let column = element % 64u;
      var sum = 0.0f;
      for (var inner = 0u; inner < 65u; inner++) {
        sum = fma(work[base + 0u + row * 72u + inner], work[base + 5408u + inner * 72u + column], sum);
      }
      work[base + 15200u + row * 72u + column] = sum;
    }
    storageBarrier();
    for (var token = local; token < tokens; token += 128u) {
      var mean = 0.0f;
      for (var column = 0u; column < 64u; column++) {
        mean += work[base + 15200u + token * 72u + column];
      }
      mean /= 64.0f;
      var squares = 0.0f;
      for (var column = 0u; column < 64u; column++) {
        let centred = work[base + 15200u + token * 72u + column] - mean;
        squares = fma(centred, centred, squares);
      }
      let factor = 1.0f / sqrt(squares / 64.0f + parameters.epsilon);
      var sum = 0.0f;
      var along = 0.0f;
      for (var column = 0u; column < 64u; column++) {
        let unit = (work[base + 15200u + token * 72u + column] - mean) * factor;
        let h = work[base + 22112u + 0u * 72u + column] * (fma(work[base + 22112u + 0u * 72u + column], unit, work[base + 22400u + 0u * 72u + column]) - work[base + 2304u + token * 72u + column]);
        sum += h;
        along = fma(h, unit, along);
        work[base + 16352u + token * 72u + column] = h;
      }
      sum /= 64.0f;
      along /= 64.0f;
      for (var column = 0u; column < 64u; column++) {
        work[base + 16352u + token * 72u + column] = (work[base + 16352u + token * 72u + column] - sum - (work[base + 15200u + token * 72u + column] - mean) * factor * along) * factor;
      }
    }
    storageBarrier();
    if (local == 0u) {
      for (var token = 0u; token < tokens; token++) {
        work[base + 4800u + 0u * 16u + token] = finite(inputs[u32(writeStrength + i32(first + token) * writeStrengthStep)]);
        let factor = parameters.rate * max(1.0f / f32(filled + token + 1u), 0.0f);
        work[base + 4672u + 0u * 16u + token] = -factor;
        work[base + 5376u + 0u * 8u + 1u] = -factor;
        for (var other = 0u; other <= token; other++) {
          work[base + 4864u + token * 16u + other] = factor * work[base + 4800u + 0u * 16u + other];
        }
      }
    }
    storageBarrier();

    // read ← set query × weight, plain
    for (var element = local; element < tokens * 64u; element += 128u) {
      let row = element / 64u;
      let column = element % 64u;
      var sum = 0.0f;
      for (var inner = 0u; inner < 65u; inner++) {
        sum = fma(work[base + 1152u + row * 72u + inner], work[base + 5408u + inner * 72u + column], sum);
      }
      work[base + 17504u + row * 72u + column] = sum;
    }
    storageBarrier();
    if (filled > 0u) {
      for (var element = local; element < tokens * 65u; element += 128u) {
        let row = element / 65u;
        let column = element % 65u;
        work[base + 20960u + row * 72u + column] = work[base + 4672u + 0u * 16u + row] * work[base + 1152u + row * 72u + column];
      }
      storageBarrier();

      // read ← add scaled × carried, plain
      for (var element = local; element < tokens * 64u; element += 128u) {
        let row = element / 64u;
        let column = element % 64u;
        var sum = 0.0f;
        for (var inner = 0u; inner < 65u; inner++) {
          sum = fma(work[base + 20960u + row * 72u + inner], work[base + 10304u + inner * 72u + column], sum);
        }
        work[base + 17504u + row * 72u + column] += sum;
      }
      storageBarrier();
    }

    // scores ← set query × key, rightTransposed
    for (var element = local; element < tokens * tokens; element += 128u) {
      let row = element / tokens;
      let column = element % tokens;
      var sum = 0.0f;
      for (var inner = 0u; inner < 65u; inner++) {
        sum = fma(work[base + 1152u + row * 72u + inner], work[base + 0u + column * 72u + inner], sum);
      }
      work[base + 5120u + row * 16u + column] = sum * work[base + 4864u + row * 16u + column];
    }
    storageBarrier();

    // read ← subtract scores × gradient, plain
    for (var element = local; element < tokens * 64u; element += 128u) {
      let row = element / 64u;
      let column = element % 64u;
      var sum = 0.0f;
      for (var inner = 0u; inner < tokens; inner++) {
        sum = fma(work[base + 5120u + row * 16u + inner], work[base + 16352u + inner * 72u + column], sum);
      }
      work[base + 17504u + row * 72u + column] -= sum;
    }
    storageBarrier();
    for (var token = local; token < tokens; token += 128u) {
      var mean = 0.0f;
      for (var column = 0u; column < 64u; column++) {
        mean += work[base + 17504u + token * 72u + column];
      }
      mean /= 64.0f;
      var squares = 0.0f;
      for (var column = 0u; column < 64u; column++) {
        let centred = work[base + 17504u + token * 72u + column] - mean;
        squares = fma(centred, centred, squares);
      }
      let factor = 1.0f / sqrt(squares / 64.0f + parameters.epsilon);
      for (var column = 0u; column < 64u; column++) {
        output[(u32(outputRow) + first + token) * 64u + column] = fma(work[base + 22112u + 0u * 72u + column], (work[base + 17504u + token * 72u + column] - mean) * factor, work[base + 22400u + 0u * 72u + column]) + work[base + 1152u + token * 72u + column];
      }
    }
    storageBarrier();
    for (var element = local; element < tokens * 64u; element += 128u) {
      let row = element / 64u;
      let column = element % 64u;
      work[base + 20960u + row * 72u + column] = work[base + 4800u + 0u * 16u + row] * work[base + 16352u + row * 72u + column];
    }
    storageBarrier();

    // carried ← add key × scaled, leftTransposed
    for (var element = local; element < 65u * 64u; element += 128u) {
      let row = element / 64u;
      let column = element % 64u;
      var sum = 0.0f;
      for (var inner = 0u; inner < tokens; inner++) {
        sum = fma(work[base + 0u + inner * 72u + row], work[base + 20960u + inner * 72u + column], sum);
      }
      work[base + 10304u + row * 72u + column] += sum;
    }
    storageBarrier();
    if (batchEnds) {
      for (var element = local; element < 65u * 64u; element += 128u) {
        let row = element / 64u;
        let column = element % 64u;
        work[base + 5408u + row * 72u + column] = 1.0f * work[base + 5408u + row * 72u + column] + work[base + 5376u + 0u * 8u + 1u] * work[base + 10304u + row * 72u + column];
      }
      storageBarrier();
      for (var element = local; element < 65u * 64u; element += 128u) {
        let row = element / 64u;
        let column = element % 64u;
        work[base + 10304u + row * 72u + column] = 0.0f;
      }
      storageBarrier();
    }
    first += tokens;
    filled = select(filled + tokens, 0u, batchEnds);
  }
  if (local == 0u) {
    counts[task] = filled;
  }
}
