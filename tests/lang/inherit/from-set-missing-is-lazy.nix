{ inherit ({ }) a; b = 1; }.b
