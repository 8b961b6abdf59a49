// Draws the report from the JSON in the page. Fetches nothing; inserts every text as text, never as markup.
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const tip = $('tip');
const colour = name => `var(--${name})`;
const kOwners = ['#8ab6f0', '#f4a988', '#8fd3a5', '#e6a3d1', '#f2d272', '#b3a4ec', '#7fd1d6', '#f08f95', '#c3d67a', '#d2b48c'];

function element(tag, text, parent) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}
function shape(tag, attributes, parent, text) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}
const commas = n => n.toLocaleString('en-US', {maximumFractionDigits: 6});
const short = n => n === 0 ? '0' : Math.abs(n) >= 1e5 || Math.abs(n) < 1e-3 ? n.toExponential(2) : commas(+n.toPrecision(5));
const percent = share => (100 * share).toFixed(1) + ' %';
const bytes = n => commas(n) + ' bytes' + (n >= 1e6 ? ` (${(n / 1e6).toPrecision(4)} MB)` : '');

function show(event, text) {
  tip.textContent = text;
  tip.style.display = 'block';
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 6)) + 'px';
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18) + 'px';
}
const hide = () => { tip.style.display = 'none'; };

// Draws now and whenever the width changes.
function drawn(host, draw) {
  let width = 0;
  const redraw = () => {
    if (Math.abs(host.clientWidth - width) < 1) return;
    width = host.clientWidth;
    host.replaceChildren();
    draw(Math.max(width, 200));
  };
  redraw();  // the observer is first called with a frame, which a page in the background may never get
  new ResizeObserver(redraw).observe(host);
}

function ticks(low, high, count) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(m => m * power >= raw);
  const list = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) list.push(+t.toPrecision(12));
  return list;
}

// series: {name, colour, x, y, dots}
function chart(id, series, height = 210, fromZero = true) {
  const host = $(id);
  series = series.filter(s => s.x.length);
  if (!series.length) return void element('p', 'The log holds no such data.', host);
  // All curves share the axis of steps, so that points above one another belong to the same step.
  const all = series.flatMap(s => s.y), xs = [...series, {x: data.steps.step}].flatMap(s => s.x.length ? [s.x[0], s.x[s.x.length - 1]] : []);
  let low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
  if (fromZero && low > 0) low = 0;
  if (low === high) low -= 1, high += 1;
  const begin = Math.min(...xs), end = Math.max(...xs, begin + 1);
  drawn(host, width => {
    const left = 54, right = width - 8, top = 8, bottom = height - 22;
    const px = x => left + (right - left) * (x - begin) / (end - begin), py = y => bottom - (bottom - top) * (y - low) / (high - low);
    const svg = shape('svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': series.map(s => s.name).join(', ') + ' by step'}, host);
    for (const t of ticks(low, high, 5)) {
      shape('path', {class: 'grid', d: `M${left} ${py(t)}H${right}`}, svg);
      shape('text', {x: left - 6, y: py(t) + 4, 'text-anchor': 'end'}, svg, short(t));
    }
    for (const t of ticks(begin, end, Math.max(3, width / 90))) {
      if (t % 1 === 0) shape('text', {x: px(t), y: height - 5, 'text-anchor': t > end - (end - begin) / 20 ? 'end' : 'middle'}, svg, commas(t));
    }
    for (const s of series) {
      const d = s.x.map((x, i) => `${i ? 'L' : 'M'}${px(x).toFixed(1)} ${py(s.y[i]).toFixed(1)}`).join('');
      shape('path', {d, fill: 'none', stroke: s.colour, 'stroke-width': s.dots ? 2 : 1.3, 'stroke-linejoin': 'round'}, svg);
      if (s.dots) s.x.forEach((x, i) => shape('circle', {cx: px(x), cy: py(s.y[i]), r: 3, fill: s.colour}, svg));
    }
    const cross = shape('path', {class: 'cross', d: ''}, svg);
    svg.onpointermove = event => {
      const wanted = begin + (event.clientX - svg.getBoundingClientRect().left - left) / (right - left) * (end - begin);
      const nearest = s => s.x.reduce((best, x, i) => Math.abs(x - wanted) < Math.abs(s.x[best] - wanted) ? i : best, 0);
      cross.setAttribute('d', `M${px(Math.min(end, Math.max(begin, wanted)))} ${top}V${bottom}`);
      show(event, series.map(s => { const i = nearest(s); return `${s.name}, step ${commas(s.x[i])}: ${commas(s.y[i])}`; }).join('\n'));
    };
    svg.onpointerleave = () => { cross.setAttribute('d', ''); hide(); };
  });
}
function legend(id, entries) {
  for (const [name, fill] of entries) {
    const key = element('span', undefined, $(id));
    key.className = 'key';
    key.style.background = fill;
    $(id).append(name);
  }
}

function head() {
  const {steps, evals, summary, plan} = data, last = list => list[list.length - 1];
  $('title').textContent = `${data.arch}, ${data.device}`;
  document.title = `${data.arch}: NeuroGen run`;
  $('about').textContent = `${data.file}, seed ${data.seed}` + (data.every > 1 ? `, every ${data.every}th step shown` : '') +
      (summary ? '' : ', without a summary: the run is still going or was cut short');
  const tile = (name, value, id) => {
    const box = element('div', undefined, $('tiles'));
    box.className = 'tile';
    element('b', value, box).id = 'tile-' + id;
    element('span', name, box);
  };
  if (steps.step.length) {
    tile('steps', commas(last(steps.step)), 'steps');
    tile('tokens', commas(last(steps.tokens)), 'tokens');
    tile('loss of the last step', last(steps.loss).toFixed(4), 'loss');
  }
  if (evals.length) {
    tile('held-out loss', last(evals).valid_loss.toFixed(4), 'valid');
    tile('held-out perplexity', last(evals).perplexity.toFixed(2), 'perplexity');
  }
  if (summary) tile('tokens per second', commas(Math.round(summary.tokens_per_s)), 'speed');
  tile('bytes planned of the budget', `${(plan.total_bytes / 1e6).toFixed(1)} of ${(plan.budget_bytes / 1e6).toFixed(1)} MB`, 'memory');
  if (steps.step.length) tile('allocations since the seal', commas(last(steps.host_allocations)), 'allocations');
}

function curves() {
  const {steps, evals, activity} = data, of = (list, value) => list.map(value);
  legend('loss-legend', [['training', colour('a')], ['held out', colour('b')]]);
  chart('loss', [{name: 'training', colour: colour('a'), x: steps.step, y: steps.loss},
                 {name: 'held out', colour: colour('b'), x: of(evals, e => e.step), y: of(evals, e => e.valid_loss), dots: true}], 300, false);
  chart('speed', [{name: 'tokens/s', colour: colour('a'), x: steps.step, y: steps.tokens_per_s}]);
  chart('rate', [{name: 'rate', colour: colour('a'), x: steps.step, y: steps.lr}]);
  chart('norm', [{name: 'norm', colour: colour('a'), x: steps.step, y: steps.grad_norm}]);
  const kinds = [['mean', 'a'], ['open', 'b'], ['shut', 'c']];
  legend('gates-legend', [['mean', colour('a')], ['share above 0.9', colour('b')], ['share below 0.1', colour('c')]]);
  chart('gates', kinds.map(([name, c]) => ({name, colour: colour(c), x: of(activity, a => a.step), y: of(activity, a => a.gates[name]), dots: true})));
}

function memory() {
  const {plan, operations} = data;
  const buffers = plan.buffers.filter(b => b.arena === 'device' && b.bytes > 0);
  const owner = b => b.name.split(/[./ 0-9]/)[0], area = {};
  for (const b of buffers) if (b.kind === 'transient') area[owner(b)] = (area[owner(b)] || 0) + b.bytes * (b.last_op - b.first_op + 1);
  const owners = Object.keys(area).sort((x, y) => area[y] - area[x]).slice(0, kOwners.length);
  const fill = b => b.kind !== 'transient' ? colour(b.kind) : owners.includes(owner(b)) ? kOwners[owners.indexOf(owner(b))] : colour('other');
  legend('memory-legend', [['persistent', colour('persistent')], ['derived', colour('derived')], ...owners.map((o, i) => [o, kOwners[i]])]);
  $('memory-about').textContent = `${buffers.length} buffers in ${bytes(plan.device_arena_bytes)}; operations from left to right, addresses upwards. ` +
      'Point at a buffer for its name, size and lifetime.';
  const last = Math.max(...buffers.map(b => b.last_op)) + 1, name = o => `${o}${operations[o] ? ' ' + operations[o] : ''}`;
  drawn($('memory'), width => {
    const left = 54, height = Math.min(560, Math.max(320, width / 2)), bottom = height - 8;
    const px = o => left + (width - left) * o / last, py = a => bottom - (bottom - 8) * a / plan.device_arena_bytes;
    const svg = shape('svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': 'memory map'}, $('memory'));
    for (const t of ticks(0, plan.device_arena_bytes, 6)) {
      shape('path', {class: 'grid', d: `M${left} ${py(t)}H${width}`}, svg);
      shape('text', {x: left - 6, y: py(t) + 4, 'text-anchor': 'end'}, svg, t >= 1e9 ? `${+(t / 1e9).toPrecision(3)} GB` : `${+(t / 1e6).toPrecision(3)} MB`);
    }
    buffers.forEach(b => {
      const rect = shape('rect', {x: px(b.first_op), width: Math.max(1, px(b.last_op + 1) - px(b.first_op)), y: py(b.offset + b.bytes),
                                  height: Math.max(0.7, py(b.offset) - py(b.offset + b.bytes)), fill: fill(b)}, svg);
      rect.dataset.name = b.name;
      rect.onpointermove = event => {
        rect.classList.add('hot');
        const alive = b.kind === 'transient' ? `alive from operation ${name(b.first_op)} to ${name(b.last_op)}` : 'alive always';
        show(event, `${b.name}\n${bytes(b.bytes)}, ${b.dtype} [${b.shape.join(', ')}]\n${b.kind}, ${alive}\naddress ${commas(b.offset)}`);
      };
      rect.onpointerleave = () => { rect.classList.remove('hot'); hide(); };
    });
  });
}

function times() {
  const measured = data.times;
  if (!measured) return void ($('times-about').textContent = 'The log holds no times: they are measured in the step before an evaluation and in the last step.');
  const families = {};
  measured.ms.forEach((ms, o) => {
    const family = (data.operations[o] || 'operation ' + o).replace(/[0-9]+/g, '#');
    const f = families[family] = families[family] || {count: 0, ms: 0};
    f.count++, f.ms += ms;
  });
  const all = measured.ms.reduce((a, b) => a + b, 0);
  const sorted = Object.entries(families).sort((x, y) => y[1].ms - x[1].ms), most = sorted.slice(0, 24), rest = sorted.slice(24);
  if (rest.length) most.push([`${rest.length} others`, rest.reduce((s, [, f]) => ({count: s.count + f.count, ms: s.ms + f.ms}), {count: 0, ms: 0})]);
  $('times-about').textContent = `Step ${commas(measured.step)}, each operation timed separately: ${all.toFixed(2)} ms. Names that differ only in numbers share a line.`;
  const row = (cells, tag) => {
    const tr = element('tr', undefined, $('times'));
    for (const cell of cells) element(tag, cell, tr);
    return tr;
  };
  row(['operation', 'times', 'ms', 'share', ''], 'th');
  for (const [name, f] of most) {
    const wide = row([name, f.count, f.ms.toFixed(3), percent(f.ms / all), ''], 'td').lastChild;
    wide.className = 'wide';
    const bar = element('div', undefined, wide);
    bar.className = 'bar';
    bar.style.width = 100 * f.ms / (most[0][1].ms || 1) + '%';
  }
}

function modules() {
  const latest = data.activity[data.activity.length - 1];
  if (!latest) return void ($('modules-about').textContent = 'The log holds no such data: it is measured at held-out evaluations.');
  $('modules-about').textContent = `After step ${commas(latest.step)}, over ${commas(latest.tokens)} held-out tokens. Dead: an output below a hundredth of its ` +
      'module\'s root mean square; saturated: it stays within a twentieth of its mean. Time constants in tokens.';
  const row = (cells, tag) => { const tr = element('tr', undefined, $('modules')); for (const cell of cells) element(tag, cell, tr); };
  row(['module', 'mean', 'spread', 'dead', 'saturated', 'shortest', '10 %', 'median', '90 %', 'longest'], 'th');
  for (const [name, m] of Object.entries(latest.modules)) {
    row([name, m.mean.toFixed(4), m.spread.toFixed(4), percent(m.dead), percent(m.saturated),
         ...m.time_constants.map(t => m.time_constants[4] ? t.toFixed(2) : '')], 'td');
  }
}

function samples() {
  if (!data.samples.length) element('p', 'The log holds none: they are written at held-out evaluations if a tokenizer was given.', $('samples'));
  for (const s of [...data.samples].reverse()) {
    const box = element('div', undefined, $('samples'));
    box.className = 'sample';
    element('small', `step ${commas(s.step)}`, box);
    element('i', s.prompt, box);
    box.append(s.text);
  }
}

for (const part of [head, curves, memory, times, modules, samples]) part();
