"""An objective with cells within trajectories and cells of trajectories."""

DEEP = """\
objective deep {
  param epsilon : log = 0.02 in (0, 1)
  signal log_ratio split
  levels token < turn by turn_id < trajectory < group by uid
  at group      { base  rollback(+0.1, -0.05) }
  at trajectory { fiber rollback(+0.1, -0.05) }
  at turn       { fiber rollback(+0.1, -0.05) }
  at token      { fiber clip(epsilon) }
  reduce mean over trajectory, mean over token
}
"""
