// G from chunk to chunk, 32 columns in each workgroup, 2 lanes to a column, 32 rows each.

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
@group(0) @binding(1) var<storage, read> value: array<f32>;  // [batch, heads, rows, 64]
@group(0) @binding(2) var<storage, read> integers: array<i32>;  // 17 for each lane
@group(0) @binding(3) var<storage, read> factors: array<f32>;  // of each lane and chunk: within, total, read, write, recall, remove
@group(0) @binding(4) var<storage, read_write> memory: array<f32>;  // G of each lane [64, 64]
@group(0) @binding(5) var<storage, read_write> states: array<f32>;  // G before each chunk [width, columns]

var<workgroup> shares: array<f32, 1024>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }
  let lane = task / 2u;
  let column = (task % 2u) * 32u + local % 32u;
  let firstRow = local / 32u * 32u;
  let isColumn = column < 64u;
  let valueRow = integers[lane * 17u + 2u];
  let queryCount = integers[lane * 17u + 4u];
  let keyCount = integers[lane * 17u + 5u];
  let shift = integers[lane * 17u + 6u];
  let steps = integers[lane * 17u + 7u];
  let state = integers[lane * 17u + 8u];
  var held: array<f32, 32>;
  for (var n = 0u; n < 32u; n++) {
    let row = firstRow + n;
    if (parameters.isFresh == 0u && isColumn) {
      held[n] = memory[(u32(state) * 64u + row) * 64u + column];
    }
  }

  for (var chunk = 0u; chunk < parameters.chunks; chunk++) {
    let firstStep = i32((parameters.firstChunk + chunk) * 16u);
    if (firstStep >= steps) {
      break;
    }
    let at = lane * parameters.chunks + chunk;
    let base = at * 4416u;
    for (var n = 0u; n < 32u; n++) {
      let row = firstRow + n;
      if (isColumn) {
        states[(at * 64u + row) * 64u + column] = held[n];
      }
    }
    var recalled: array<f32, 16>;
    for (var t = 0u; t < 16u; t++) {
      var sum = 0.0f;
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        sum = fma(factors[base + (256u + 33u * 64u) + t * 64u + row], held[n], sum);
      }
      shares[t * 64u + local] = sum;
    }
    workgroupBarrier();
    for (var t = 0u; t < 16u; t++) {
      recalled[t] = 0.0f;
      for (var other = 0u; other < 2u; other++) {
        recalled[t] += shares[t * 64u + other * 32u + local % 32u];
      }
    }
    workgroupBarrier();
    for (var n = 0u; n < 32u; n++) {
      let row = firstRow + n;
      held[n] *= factors[base + 256u + row];
    }
    for (var t = 0u; t < 16u; t++) {
      let step = firstStep + i32(t) + min(shift, 0i);
      let queryIndex = step - shift;
      let hasKey = step >= 0i && step < keyCount;
      let hasQuery = queryIndex >= 0i && queryIndex < queryCount;
      var element = 0.0f;
      if (hasKey && isColumn) {
        element = value[u32(valueRow + step) * parameters.valueDim + column];
      }
      for (var n = 0u; n < 32u; n++) {
        let row = firstRow + n;
        held[n] = fma(-factors[base + (256u + 49u * 64u) + t * 64u + row], recalled[t], held[n]);
        held[n] = fma(factors[base + (256u + 17u * 64u) + t * 64u + row], element, held[n]);
      }
    }
  }
  for (var n = 0u; n < 32u; n++) {
    let row = firstRow + n;
    if (isColumn) {
      memory[(u32(state) * 64u + row) * 64u + column] = held[n];
    }
  }
}
