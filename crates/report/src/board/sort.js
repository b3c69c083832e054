// Sorts the table by a column: numbers from the largest down, texts from a to z, and the other way round on a second click.
const board = document.getElementById('board');
const heads = [...board.tHead.rows[0].cells];
function sort(column, again) {
  const cells = row => row.cells[column];
  const number = row => parseFloat(cells(row).dataset.value);
  const rows = [...board.tBodies[0].rows];
  const numeric = rows.every(row => cells(row).dataset.value !== undefined);
  const head = heads[column];
  const first = numeric ? 'descending' : 'ascending';
  const turned = again && head.getAttribute('aria-sort') === first;
  const order = turned ? (numeric ? 'ascending' : 'descending') : first;
  const sign = order === 'ascending' ? 1 : -1;
  rows.sort((a, b) => sign * (numeric ? number(a) - number(b) : cells(a).innerText.localeCompare(cells(b).innerText)));
  heads.forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', order);
  board.tBodies[0].append(...rows);
}
heads.forEach((head, column) => head.firstChild.addEventListener('click', () => sort(column, true)));
const wanted = heads.findIndex(head => '#' + head.dataset.key === location.hash);
if (wanted >= 0) sort(wanted, false);
