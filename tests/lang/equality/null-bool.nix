[ (null == null) (true == true) (null == false) ]
