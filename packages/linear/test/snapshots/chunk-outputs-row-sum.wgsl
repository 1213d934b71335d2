// Rows of the output, one workgroup for 64 columns of a chunk.

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
@group(0) @binding(1) var<storage, read> value: array<f32>;  // [batch, heads, rows, valueDim]
@group(0) @binding(2) var<storage, read> integers: array<i32>;  // 17 for each lane
@group(0) @binding(3) var<storage, read> factors: array<f32>;  // of each lane and chunk: within, total, read, write, recall, remove
@group(0) @binding(4) var<storage, read> states: array<f32>;  // G before each chunk [width, columns]
@group(0) @binding(5) var<storage, read_write> output: array<f32>;  // [batch, heads, rows, columns]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }
  let blocks = (parameters.columns + 63u) / 64u;
  let at = task / blocks;
  let lane = at / parameters.chunks;
  let column = task % blocks * 64u + local;
  let isColumn = column < parameters.columns;
  let valueRow = integers[lane * 17u + 2u];
  let outputRow = integers[lane * 17u + 3u];
  let queryCount = integers[lane * 17u + 4u];
  let keyCount = integers[lane * 17u + 5u];
  let shift = integers[lane * 17u + 6u];
  let steps = integers[lane * 17u + 7u];
  let firstStep = i32((parameters.firstChunk + at % parameters.chunks) * 16u);
  if (firstStep >= steps || !isColumn) {
    return;
  }
  let base = at * (256u + 33u * parameters.width);
  var sums: array<f32, 16>;
  for (var row = 0u; row < parameters.width; row++) {
    let held = states[(at * parameters.width + row) * parameters.columns + column];
    for (var t = 0u; t < 16u; t++) {
      sums[t] = fma(factors[base + (256u + 1u * parameters.width) + t * parameters.width + row], held, sums[t]);
    }
  }
  for (var j = 0u; j < 16u; j++) {
    let step = firstStep + i32(j) + min(shift, 0i);
    let queryIndex = step - shift;
    let hasKey = step >= 0i && step < keyCount;
    let hasQuery = queryIndex >= 0i && queryIndex < queryCount;
    var element = 0.0f;
    if (hasKey && isColumn) {
      if (column < parameters.valueDim) { element = value[u32(valueRow + step) * parameters.valueDim + column]; } else { element = 1.0f; }
    }
    for (var t = 0u; t < 16u; t++) {
      sums[t] = fma(factors[base + t * 16u + j], element, sums[t]);
    }
  }
  for (var t = 0u; t < 16u; t++) {
    let step = firstStep + i32(t) + min(shift, 0i);
    let queryIndex = step - shift;
    let hasKey = step >= 0i && step < keyCount;
    let hasQuery = queryIndex >= 0i && queryIndex < queryCount;
    if (hasQuery) {
      output[u32(outputRow + queryIndex) * parameters.columns + column] = sums[t];
    }
  }
}
