with (throw "forced"); a
