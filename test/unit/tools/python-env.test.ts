import { describe, expect, it } from 'vitest';
import { choosePython, type Python } from '../../../tools/python-env.ts';

const python = (minor: string): Python => ({ path: `/opt/python${minor}`, version: `${minor}.1`, minor });

describe('the Python of a suite', () => {
  it('is the wanted minor version', () => {
    expect(choosePython([python('3.13'), python('3.12')], '3.12', true).minor).toBe('3.12');
  });

  it('is the best one where another will do', () => {
    expect(choosePython([python('3.13')], '3.12', false).minor).toBe('3.13');
  });

  it('is missing, with the command to run, where only another is there', () => {
    expect(() => choosePython([python('3.14'), python('3.12')], '3.13', true)).toThrow(
      /Python 3\.13 is needed .* \(found: 3\.14\.1, 3\.12\.1\)\. Run one of:\n {2}pyenv install 3\.13\n/,
    );
  });

  it('is missing where there is none at all', () => {
    expect(() => choosePython([], '3.13', false)).toThrow(/Python 3\.12 or newer .*\n {2}pyenv install 3\.13\n/);
  });
});
