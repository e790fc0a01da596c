"${./files/run.sh}"
