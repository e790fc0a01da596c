/** doc */
x: x
