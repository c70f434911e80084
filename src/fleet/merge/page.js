'use strict';
(() => {
  const columns = [
    ['Recording', 0, 't'], ['State', 1, 't'], ['Length', 2, 'n'], ['Frames', 3, 'n'], ['Polyps', 4, 'n'], ['Brief', 5, 'n'],
    ['Marked', 6, 'n'], ['First alarm', 7, 'n'], ['Lost', 8, 'n'], ['Course', 9, ''], ['Reason', 10, 't']];
  const rows = JSON.parse(document.getElementById('data').textContent);
  const text = rows.map(r => (r[0] + '\n' + r[1] + '\n' + (r[10] || '')).toLowerCase());
  const body = document.querySelector('#table tbody'), head = document.querySelector('#table thead tr');
  const shown = document.getElementById('shown'), search = document.getElementById('search');
  const PAGE = 200;
  let order = null, down = false, most = PAGE;
  const clock = s => {
    const t = Math.round(s), h = Math.floor(t / 3600), m = Math.floor(t / 60) % 60;
    return (h ? h + ':' + String(m).padStart(2, '0') : m) + ':' + String(t % 60).padStart(2, '0');
  };
  const shows = [
    v => v, v => v, v => v === null ? '' : clock(v), v => v.toLocaleString('en'), v => v === null ? '' : v,
    v => v === null ? '' : v, v => v === null ? '' : (v * 100).toFixed(1) + ' %', v => v === null ? '' : v + ' ms',
    v => v || '', v => v, v => v || ''];
  const course = digits => {
    const ns = 'http://www.w3.org/2000/svg', svg = document.createElementNS(ns, 'svg'), path = document.createElementNS(ns, 'path');
    svg.setAttribute('class', 'course');
    svg.setAttribute('viewBox', '0 0 ' + Math.max(digits.length, 1) + ' 10');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', 'largest probability over time');
    let d = '';
    for (let i = 0; i < digits.length; i++) {
      const v = digits.charCodeAt(i) - 48;
      if (v >= 0 && v <= 9) d += 'M' + i + ' 10V' + (9 - v) + 'h1V10z';
    }
    path.setAttribute('d', d);
    svg.appendChild(path);
    return svg;
  };
  const draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(w => w);
    let found = [];
    for (let i = 0; i < rows.length; i++) if (words.every(w => text[i].includes(w))) found.push(i);
    if (order !== null) {
      const [, at, kind] = columns[order];
      const value = i => kind === 'n' ? (rows[i][at] === null ? -1 : rows[i][at]) : String(rows[i][at] || '');
      found.sort((a, b) => {
        const x = value(a), y = value(b), c = kind === 'n' ? x - y : x < y ? -1 : x > y ? 1 : 0;
        return (down ? -c : c) || a - b;
      });
    }
    body.textContent = '';
    for (const i of found.slice(0, most)) {
      const tr = body.insertRow();
      for (const [, at, kind] of columns) {
        const td = tr.insertCell();
        if (kind === 'n') td.className = 'n';
        if (at === 1) td.className = 'state-' + rows[i][1];
        if (at === 9) td.appendChild(course(rows[i][9]));
        else td.textContent = shows[at](rows[i][at]);
      }
    }
    shown.textContent = Math.min(most, found.length).toLocaleString('en') + ' of ' + found.length.toLocaleString('en') +
      (found.length < rows.length ? ' found among ' + rows.length.toLocaleString('en') : '');
    if (found.length > most) {
      const more = document.createElement('button');
      more.textContent = 'Show ' + PAGE + ' more';
      more.addEventListener('click', () => { most += PAGE; draw(); });
      shown.appendChild(more);
    }
  };
  columns.forEach(([name, , kind], n) => {
    const th = document.createElement('th'), button = document.createElement('button');
    if (kind === 'n') th.className = 'n';
    if (!kind) { th.textContent = name; head.appendChild(th); return; }
    button.textContent = name;
    button.addEventListener('click', () => {
      down = order === n ? !down : kind === 'n';
      order = n;
      for (const other of head.children) other.removeAttribute('aria-sort');
      th.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      draw();
    });
    th.appendChild(button);
    head.appendChild(th);
  });
  search.addEventListener('input', () => { most = PAGE; draw(); });
  draw();
})();
