const MARGIN = 4;
const ROOM_FOR_SCALE = 18;

/**
 * Draws a line of at most `points` values, the newest at the right, with the largest as its scale.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {readonly number[]} values
 * @param {number} points
 */
export function draw(canvas, values, points) {
  const pen = canvas.getContext('2d');
  if (pen === null) return;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  pen.scale(devicePixelRatio, devicePixelRatio);
  const style = getComputedStyle(canvas);
  const top = Math.max(1, ...values);
  /** @param {number} index */
  const x = (index) => width - ((values.length - 1 - index) * width) / (points - 1);
  /** @param {number} value */
  const y = (value) => height - MARGIN - (value / top) * (height - MARGIN - ROOM_FOR_SCALE);
  pen.strokeStyle = style.getPropertyValue('--line');
  pen.fillStyle = style.getPropertyValue('--soft');
  pen.font = '12px system-ui, sans-serif';
  pen.beginPath();
  for (const value of [0, top / 2, top]) {
    pen.moveTo(0, y(value));
    pen.lineTo(width, y(value));
  }
  pen.stroke();
  pen.fillText(top < 10 ? top.toFixed(1) : String(Math.round(top)), 2, 12);
  pen.strokeStyle = style.color;
  pen.lineWidth = 2;
  pen.beginPath();
  for (const [index, value] of values.entries()) pen.lineTo(x(index), y(value));
  pen.stroke();
}
